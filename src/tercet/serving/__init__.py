"""TODO tercet.serving."""
