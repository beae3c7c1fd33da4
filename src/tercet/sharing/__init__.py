"""A finished run shared: model card, Hub, W&B, datasets, retriever, Space."""
