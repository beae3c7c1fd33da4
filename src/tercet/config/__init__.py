"""The recipe: one YAML file that describes a run."""
