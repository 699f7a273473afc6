"""A model as one HTML file that draws in a browser."""
