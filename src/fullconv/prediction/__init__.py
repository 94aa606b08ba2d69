"""Maps of images of any size."""
