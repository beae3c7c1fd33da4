"""TODO tercet.config."""
