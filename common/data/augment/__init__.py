"""Augmentation: multi-crop, supervised, color, resizing, policies, mixing, erasing."""
