"""Owns measuring: variants in turn, so that a machine that drifts drifts for all; medians, spreads and paired ratios."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

Variant = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One variant of a benchmark."""

    variant: str
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    """How many times faster than the plain variant: the median of the ratios, repeat by repeat."""


def compare(variants: Mapping[str, Variant], *, repeats: int, per: int = 1) -> list[Row]:
    """Time the variants in turn, the first being the plain one; times are for one of the `per` items a call handles."""
    for variant in variants.values():
        variant()  # warm caches, allocators and lazy imports
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, variant in variants.items():
            begun = time.perf_counter()
            variant()
            times[name].append((time.perf_counter() - begun) * 1000 / per)
    plain = times[next(iter(variants))]
    return [
        Row(
            name,
            statistics.median(own),
            min(own),
            max(own),
            statistics.median(reference / mine for reference, mine in zip(plain, own, strict=True)),
        )
        for name, own in times.items()
    ]


def hardware() -> dict[str, object]:
    """Return what the figures depend on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def matrix_rate(size: int = 1024, repeats: int = 20) -> float:
    """Return the machine's fp32 matrix rate in GFLOP/s, measured on the spot."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    [row] = compare({"product": lambda: left @ right}, repeats=repeats)
    return 2 * size**3 / row.median_ms / 1e6


def show(title: str, unit: str, rows: list[Row], limit: str, out: Path | None) -> None:
    """Print a table and, where `out` is given, write it as JSON with the hardware it was measured on."""
    machine = hardware()
    print(
        f"\n{title}\n{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}, load {machine['load']}"
    )
    width = max(len(row.variant) for row in rows)
    print(f"  {'':{width}}  {unit:>14}  {'spread':>19}  {'against plain':>13}")
    for row in rows:
        print(
            f"  {row.variant:{width}}  {row.median_ms:14.3f}  {row.low_ms:8.3f} .. {row.high_ms:7.3f}  {row.ratio:12.2f}x"
        )
    print(f"  limit: {limit}")
    if out is not None:
        content = {
            "title": title,
            "unit": unit,
            "hardware": machine,
            "rows": [asdict(row) for row in rows],
            "limit": limit,
        }
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=2) + "\n")
