"""Data sets: labelled images in memory."""
