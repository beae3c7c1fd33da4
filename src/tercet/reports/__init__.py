"""TODO tercet.reports."""
