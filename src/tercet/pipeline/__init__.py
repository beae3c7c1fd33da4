"""A run: its steps in order, and the components they are made of."""
