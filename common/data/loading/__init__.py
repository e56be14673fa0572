"""Data loading: samplers, loader, workers, replacement of corrupt images."""
