"""Code shared by both stages: networks and stems, data and subsets, training state, evaluation, configuration."""
