"""Shares a finished run: model card, Hub, W&B, datasets, retriever file, Space."""
