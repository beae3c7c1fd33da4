"""The Trainer: losses, batches, evaluation during training, the choice of what ships."""
