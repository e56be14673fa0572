"""Run benchmarks: `python -m benchmarks data step loop [--repeats 7] [--growth] [--json benchmarks/results]`."""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.timing import show
from common.pipes import exit_with

NAMES = {
    "data": ("JPEGs to DINO's and DeiT's views on one core; scaling; the data loader", 2),
    "color": ("color augmentation, blur and solarization by each implementation, and the error relative to PIL", 1),
    "step": ("DINO's step, its loss and the EMA of the teacher", 5),
    "loop": ("DINO training end to end including data loading, compared with lightly if it is installed", 50),
    "finetune": ("supervised training end to end including data loading, also with SAM", 25),
    "gpu": ("both stages on a GPU by stage and variant: rate, utilization, memory; has options, see gpu --help", None),
    "knn": ("k-NN compared with the matrix product alone, and scaling with the size of the bank", 1),
    "startup": ("time from the command to the first step, for 1.8 thousand to 1.28 million rows", 2),
    "shards": ("tar shards: building an index, starts over one of 14.2 million images, random reads", 8),
    "studies": ("small studies: prefork on and off; active and passive waiting of threads", 15),
    "checkpoints": ("writing a checkpoint, compared with torch.save", 3),
    "reports": ("the report of 400 runs: CPU time, peak memory, file sizes", 5),
}
"""What each measures, and its minutes on two cores with the default repeats, if known."""
GROWING = ("loop",)
"""Benchmarks that also measure how time and memory scale, by their function `growth`."""
WITH_VARIANTS = ("loop", "finetune")
"""Benchmarks whose rows can be chosen, by the argument `variants` of their function `run`."""
WITH_OPTIONS = ("coverage", "duplicates", "gpu", "gpu_step", "resume")
"""Programs with options of their own, each the function `main` of a module."""
OTHERS = """
each is a module of this folder: benchmarks/<name>.py

separate programs, each with --help or a docstring:
  python -m benchmarks coverage  do the intervals of a comparison cover the truth? simulated studies, an hour on two cores
  python -m benchmarks duplicates  planted copies of test images among training images: recall, false alarms, time
  python -m benchmarks gpu_step  inside a training step on a GPU: waits, parts, longest kernels, memory
  python -m benchmarks resume   configurations run twice, and once killed and resumed: do they differ by more than two runs do?
  python -m benchmarks.parity   does speed cost accuracy? complete trainings with the reference and the fast implementation
  python -m benchmarks.fuzz     damaged images, absurd recipes, absurd runs
  python -m benchmarks.kills    runs killed at random moments, or whose reads fail at random, compared bitwise
"""


def main() -> int:
    """Run the benchmarks of the command line and print their tables; return the exit code."""
    if sys.argv[1:2] and sys.argv[1] in WITH_OPTIONS:
        code: int = importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return code
    options = parse_options()
    for name in options.names:
        module = importlib.import_module(f"benchmarks.{name}")
        if options.growth:
            tables = module.growth(options.repeats)
        elif name in WITH_VARIANTS:
            tables = module.run(options.repeats, options.variant, options.setting or tuple(module.SETTINGS))
        else:
            tables = module.run(options.repeats)
        file = f"{name}_growth.json" if options.growth else f"{name}.json"
        if tables:
            show(tables, options.json / file if options.json else None)
    return 0


def parse_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"{__doc__}\n\n{describe()}",
        epilog=OTHERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="name", help="which benchmarks; default: all")
    parser.add_argument("--repeats", type=int, default=7, help="interleaved repeats (default: %(default)s)")
    parser.add_argument(
        "--growth",
        action="store_true",
        help=f"measure scaling of time and memory instead ({', '.join(GROWING)}); minutes",
    )
    parser.add_argument(
        "--variant",
        action="append",
        metavar="NAME",
        help=f"a row of the tables, by its name there; the first one is compared with ({', '.join(WITH_VARIANTS)}; default: all)",
    )
    parser.add_argument(
        "--setting",
        action="append",
        metavar="NAME",
        help=f"a table, by the name of its setting ({', '.join(WITH_VARIANTS)}; default: all)",
    )
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write <DIR>/<name>.json")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"{', '.join(unknown)}: not a benchmark; choose from {', '.join(NAMES)}")
    if options.growth and (unsupported := [name for name in options.names if name not in GROWING]):
        parser.error(f"--growth: not supported by {', '.join(unsupported)}; choose from {', '.join(GROWING)}")
    for option, chosen, known_as in (
        ("--variant", options.variant, "VARIANTS"),
        ("--setting", options.setting, "SETTINGS"),
    ):
        if chosen and options.growth:
            parser.error(f"{option}: --growth has rows of its own; name one of them")
        if chosen and (unsupported := [name for name in options.names if name not in WITH_VARIANTS]):
            parser.error(f"{option}: not supported by {', '.join(unsupported)}; choose from {', '.join(WITH_VARIANTS)}")
        for name in options.names if chosen else ():
            known = getattr(importlib.import_module(f"benchmarks.{name}"), known_as)
            if unknown := [each for each in chosen if each not in known]:
                parser.error(f"{option} {unknown[0]}: {name} has none of this name; choose from {'; '.join(known)}")
    if options.repeats < 1:
        parser.error(f"--repeats: {options.repeats} must be at least 1")
    return options


def describe() -> str:
    """Return a line per benchmark: its name, what it measures, how long it takes."""
    lines = []
    for name, (measures, minutes) in NAMES.items():
        duration = "" if minutes is None else f" (about {minutes} min on two cores)"
        lines.append(f"  {name:12} {measures}{duration}")
    return "\n".join(lines)


if __name__ == "__main__":
    exit_with(main)
