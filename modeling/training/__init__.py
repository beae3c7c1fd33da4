"""The Trainer: losses, batches, evaluation during training, the choice of the model that ships."""
