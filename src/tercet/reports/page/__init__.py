"""TODO tercet.reports.page."""
