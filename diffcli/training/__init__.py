"""Training: recipes, the step, optimizers, averaging, and runs that can be resumed."""
