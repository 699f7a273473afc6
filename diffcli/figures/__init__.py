"""Figures: pictures made of pictures and charts."""
