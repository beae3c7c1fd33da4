"""TODO tercet.pipeline.pipeline."""
