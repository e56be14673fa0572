"""How fast the hot paths are, each against the plain way in the same run: `python -m benchmarks data | photometry | step | knn`."""
