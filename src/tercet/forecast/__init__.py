"""TODO tercet.forecast.forecast."""
