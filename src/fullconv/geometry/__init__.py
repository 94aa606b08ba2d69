"""Exact integer geometry of networks on images. Imports no array library."""
