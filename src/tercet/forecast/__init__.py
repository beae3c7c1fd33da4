"""Estimates a run's time, memory and disk use before it starts."""
