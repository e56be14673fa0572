"""Augmentation: multi-crop, supervised, color, resize, policies, mixing, erasing."""
