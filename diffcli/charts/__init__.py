"""Charts on Pillow, without torch: every part is a picture, and figures are made of pictures."""
