"""What both stages share: networks and stems, data and subsets, training state, evaluation, configuration."""
