"""TODO tercet.modeling.training."""
