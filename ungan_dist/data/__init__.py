"""Where pictures come from and how they reach a model."""
