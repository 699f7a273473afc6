"""The figures that explain diffusion, made of numbers and of parts from ``drawing``."""
