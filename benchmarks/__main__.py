"""Run benchmarks: `python -m benchmarks data step loop [--repeats 7] [--growth] [--json benchmarks/results]`."""

import argparse
import importlib
from pathlib import Path

from benchmarks.timing import show

NAMES = ("data", "photometry", "step", "loop", "finetune", "knn", "startup", "studies", "checkpoints")
GROWING = ("loop",)
"""Those that also measure how time and memory grow, by their function `growth`."""


def main() -> None:
    """Run what is asked for, print a table each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=list(NAMES), metavar="name", help=f"which of {', '.join(NAMES)}; all by default"
    )
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats (default: %(default)s)")
    parser.add_argument(
        "--growth", action="store_true", help=f"how time and memory grow instead ({', '.join(GROWING)}); minutes"
    )
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write <DIR>/<name>.json")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"{', '.join(unknown)}: not a benchmark; there are {', '.join(NAMES)}")
    if options.growth and (fixed := [name for name in options.names if name not in GROWING]):
        parser.error(f"--growth: {', '.join(fixed)} does not measure it; name {', '.join(GROWING)}")
    for name in options.names:
        module = importlib.import_module(f"benchmarks.{name}")
        tables = module.growth(options.repeats) if options.growth else module.run(options.repeats)
        file = f"{name}_growth.json" if options.growth else f"{name}.json"
        show(tables, options.json / file if options.json else None)


if __name__ == "__main__":
    main()
