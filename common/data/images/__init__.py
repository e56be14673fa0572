"""Decoding and the collections of images that splits read from."""
