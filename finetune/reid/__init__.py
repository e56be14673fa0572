"""Re-identification (ReID): objective, triplet loss and retrieval metrics."""
