"""How fast the hot paths are, each against the plain way in the same run; `python -m benchmarks --help` lists them."""
