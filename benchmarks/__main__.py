"""Run benchmarks: `python -m benchmarks data photometry step knn checkpoints [--repeats 7] [--json benchmarks/results]`."""

import argparse
import importlib
from pathlib import Path

from benchmarks.timing import show

NAMES = ("data", "photometry", "step", "knn", "checkpoints")


def main() -> None:
    """Run what is asked for, print a table each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=list(NAMES), metavar="name", help=f"which of {', '.join(NAMES)}; all by default"
    )
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write <DIR>/<name>.json")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"{', '.join(unknown)}: not a benchmark; there are {', '.join(NAMES)}")
    for name in options.names:
        module = importlib.import_module(f"benchmarks.{name}")
        show(module.run(options.repeats), options.json / f"{name}.json" if options.json else None)


if __name__ == "__main__":
    main()
