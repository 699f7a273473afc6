"""Files: checkpoints, pictures, atomic writes."""
