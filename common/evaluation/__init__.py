"""What is measured of a network: classification, k-NN, feature rank, likeness of tokens; and the stages that measure it frozen."""
