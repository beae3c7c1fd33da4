"""TODO tercet.core."""
