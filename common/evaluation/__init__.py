"""Metrics (classification, k-NN, feature rank, token similarity, ReID) and the stages that evaluate a frozen backbone."""
