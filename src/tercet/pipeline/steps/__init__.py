"""TODO tercet.pipeline.pipeline.steps."""
