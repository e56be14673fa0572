"""Writing of a study's report: seconds, peak memory and file sizes for 400 runs, by number of test images."""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.synthetic_studies import comparison_study, write_study
from benchmarks.timing import Row, Table

SIZES = {"8 stems, 2 amounts of labels, 10 seeds": (8, 2, 10), "4 stems, 12 amounts of labels, 4 seeds": (4, 12, 4)}
"""Stems, amounts and seeds of studies of 400 runs."""
IMAGES = (359, 10_000)
LIMITS = {"CPU seconds": 20.0, "MB of memory": 1000.0, "MB of report.html": 2.0}
MEGABYTE = 1e6


@dataclass(frozen=True)
class Cost:
    """Cost of `python -m recipes report` in a process of its own."""

    cpu_seconds: float
    peak_bytes: int


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    return [_measure(title, size, images, min(repeats, 3)) for title, size in SIZES.items() for images in IMAGES]


def _measure(title: str, size: tuple[int, int, int], images: int, repeats: int) -> Table:
    """Write a study, time its report, and compare it with the limits."""
    stems, fractions, seeds = size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "study")
        plan = write_study(comparison_study(stems=stems, fractions=fractions, seeds=seeds), folder, images=images)
        costs = [report_cost(folder) for _ in range(repeats)]
        sizes = report_sizes(folder)
    seconds = [cost.cpu_seconds for cost in costs]
    peak = max(cost.peak_bytes for cost in costs)
    measured = dict(zip(LIMITS, (median(seconds), peak / MEGABYTE, sizes["report.html"] / MEGABYTE), strict=True))
    row = Row(f"{images:,} test images", *(1000 * f(seconds) for f in (median, min, max)), 1.0, peak / MEGABYTE)
    limit = ", ".join(f"{measured[name]:.2f} of {most:g} {name}" for name, most in LIMITS.items())
    files = ", ".join(f"{name} {count / 1e3:,.0f} kB" for name, count in sizes.items())
    return Table(f"The report of {len(plan.runs)} runs ({title}), CPU time", "ms", [row], f"{limit}; {files}")


def report_cost(folder: Path) -> Cost:
    """Run `python -m recipes report` on a study's folder; return its cost."""
    process = subprocess.Popen([sys.executable, "-m", "recipes", "report", str(folder)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "recipes report")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def report_sizes(folder: Path) -> dict[str, int]:
    """Return the size in bytes of the page, and of all figures by format."""
    sizes = {name: (folder / name).stat().st_size for name in ("report.html", "report.md", "results.csv")}
    figures = sorted((folder / "figures").iterdir())
    kinds = sorted({path.suffix for path in figures})
    return sizes | {
        f"figures/*{kind}": sum(path.stat().st_size for path in figures if path.suffix == kind) for kind in kinds
    }
