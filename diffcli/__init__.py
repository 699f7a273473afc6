"""Train, sample and open up class-conditional diffusion models of small images."""

__version__ = "0.1.0"
