"""Training: the loop, the optimizers, resuming, budgets."""
