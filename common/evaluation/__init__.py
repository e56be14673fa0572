"""What is measured of a network: classification, k-NN, feature rank. Evaluators return {name: value}."""
