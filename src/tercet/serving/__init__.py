"""A finished run that answers questions."""
