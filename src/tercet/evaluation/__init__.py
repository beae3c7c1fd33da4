"""TODO tercet.evaluation."""
