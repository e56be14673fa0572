"""Owns measuring: variants in turn, so that a machine that drifts drifts for all; medians, spreads and paired ratios."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
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
    memory_mb: float | None = None
    """Peak memory of the process that ran it, where it had one to itself; of its GPU, where it ran on one."""


@dataclass(frozen=True)
class Table:
    """What a benchmark measured under one set of conditions; the first row is the plain way."""

    title: str
    unit: str
    """What the times are for: "ms an image"."""
    rows: list[Row]
    limit: str
    """What bounds it, measured on the spot, and the share of it that is reached."""


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
    return summarise(times)


def summarise(times: Mapping[str, list[float]], memory_mb: Mapping[str, float] | None = None) -> list[Row]:
    """Return a row for each variant's times, in milliseconds, taken in turn; the first variant is the plain one."""
    plain = times[next(iter(times))]
    return [
        Row(
            name,
            statistics.median(own),
            min(own),
            max(own),
            statistics.median(reference / mine for reference, mine in zip(plain, own, strict=True)),
            (memory_mb or {}).get(name),
        )
        for name, own in times.items()
    ]


def hardware() -> dict[str, object]:
    """Return what the figures depend on."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return gpu | {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def wait_for(device: str) -> None:
    """Wait until a GPU has done all it was given: its work runs behind the back of the clock. A CPU has done it already."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(
    size: int = 1024, repeats: int = 20, dtype: torch.dtype = torch.float32, device: str = "cpu", products: int = 1
) -> float:
    """Return a device's matrix rate in GFLOP/s, measured on the spot, on a CPU with as many threads as torch has now.

    The clock is read after every so many `products`; a GPU needs several, so that starting and waiting do not count.
    """
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))

    def multiply() -> None:
        for _ in range(products):
            left @ right
        wait_for(device)

    [row] = compare({"product": multiply}, repeats=repeats, per=products)
    return 2 * size**3 / row.median_ms / 1e6


def copy_rate(megabytes: int = 1024, repeats: int = 5) -> float:
    """Return how many GB/s a copy within the memory moves, read and written together, measured on the spot."""
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    [row] = compare({"copy": lambda: target.copy_(source)}, repeats=repeats)
    return 2 * source.nbytes / row.median_ms / 1e6


def show(tables: Sequence[Table], out: Path | None) -> None:
    """Print a benchmark's tables and, where `out` is given, write them as JSON with the hardware they were measured on."""
    machine = hardware()
    for table in tables:
        print(f"\n{table.title}")
        print(
            f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, torch {machine['torch']},"
            f" load {machine['load']}{', ' + str(machine['gpu']) if 'gpu' in machine else ''}"
        )
        _print_rows(table)
        print(f"  limit: {table.limit}", flush=True)
    if out is not None:
        content = {"hardware": machine, "tables": [asdict(table) for table in tables]}
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(content, indent=2) + "\n")


def _print_rows(table: Table) -> None:
    """Print one line a variant."""
    width = max(len(row.variant) for row in table.rows)
    measured = any(row.memory_mb for row in table.rows)
    memory = f"  {'peak memory':>12}" if measured else ""
    print(f"  {'':{width}}  {table.unit:>14}  {'spread':>21}  {'against plain':>13}{memory}")
    for row in table.rows:
        memory = f"  {row.memory_mb or 0:9,.0f} MB" if measured else ""
        print(
            f"  {row.variant:{width}}  {row.median_ms:14.3f}  {row.low_ms:9.3f} .. {row.high_ms:8.3f}"
            f"  {row.ratio:12.2f}x{memory}"
        )
