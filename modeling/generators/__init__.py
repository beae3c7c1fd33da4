"""TODO tercet.modeling.generators."""
