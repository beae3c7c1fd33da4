"""TODO tercet.retrieval.weaviate."""
