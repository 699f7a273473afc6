"""Drawing with a trained model: what the commands and notebooks share."""
