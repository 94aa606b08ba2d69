"""Reading and writing images, masks and data sets."""
