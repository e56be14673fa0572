"""Data: image decoding, sources, splits and label subsets, augmentation, loading."""
