"""Run benchmarks: `python -m benchmarks data step loop [--repeats 7] [--growth] [--json benchmarks/results]`."""

import argparse
import importlib
from pathlib import Path

from benchmarks.timing import show

NAMES = {
    "data": ("JPEGs to the views of DINO and of DeiT, on one core; how that grows; the loader", 2),
    "photometry": ("colour, blur and solarizing alone, by each executor, and their error against PIL", 1),
    "step": ("DINO's step, its loss and the teacher's average", 5),
    "loop": ("whole DINO trainings, data path included, beside lightly where it is installed", 30),
    "finetune": ("whole supervised trainings, data path included, also with SAM", 15),
    "gpu": ("whole trainings of both stages on a GPU: rate, utilisation, memory; skipped without one", None),
    "knn": ("k-NN against the bare product of its two matrices, and how it grows with the bank", 1),
    "startup": ("from the command to the first step, for 1.8 thousand to 1.28 million rows", 2),
    "studies": ("small studies: processes forked or started cold; threads that wait awake or asleep", 15),
    "checkpoints": ("writing a checkpoint, against a bare torch.save", 3),
}
"""What each measures, and its minutes on two cores with the default repeats, where they are known."""
GROWING = ("loop",)
"""Those that also measure how time and memory grow, by their function `growth`."""
OTHERS = """
each is a module of this folder: benchmarks/<name>.py

programs of their own, each with --help or a docstring:
  python -m benchmarks.parity   whether accuracy is paid for speed: whole trainings the plain and the fast way
  python -m benchmarks.fuzz     damaged images, absurd recipes, absurd runs
  python -m benchmarks.kills    runs killed at random moments, or whose reads fail at random, compared bit by bit
"""


def main() -> None:
    """Run what is asked for, print a table each."""
    options = parse_options()
    for name in options.names:
        module = importlib.import_module(f"benchmarks.{name}")
        tables = module.growth(options.repeats) if options.growth else module.run(options.repeats)
        file = f"{name}_growth.json" if options.growth else f"{name}.json"
        if tables:
            show(tables, options.json / file if options.json else None)


def parse_options() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\n{describe()}",
        epilog=OTHERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", default=list(NAMES), metavar="name", help="which benchmarks; all by default"
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
    if options.repeats < 1:
        parser.error(f"--repeats: {options.repeats} measures nothing; give at least 1")
    return options


def describe() -> str:
    """Return a line for each benchmark: its name, what it measures, how long it takes."""
    lines = []
    for name, (measures, minutes) in NAMES.items():
        duration = "" if minutes is None else f" (about {minutes} min on two cores)"
        lines.append(f"  {name:12} {measures}{duration}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
