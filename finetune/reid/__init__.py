"""Re-identification: the objective, the triplet loss, the retrieval metrics of a run."""
