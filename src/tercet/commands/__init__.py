"""The stories of the commands: what each does, from top to bottom."""
