"""From a split to batches on the device: samplers, loader, workers, replacement of corrupt images."""
