"""Encoders of queries and passages, and the vector spaces they belong to."""
