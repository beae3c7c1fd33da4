"""TODO tercet.modeling.encoders."""
