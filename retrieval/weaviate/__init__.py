"""Weaviate: connection, collections, index, ingest."""
