"""Charts on Pillow, without torch: a part is a picture, a figure is pictures put together."""
