"""Timing: interleaved variants, so that drift of the machine affects all equally; medians, ranges and paired ratios."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from common.cores import available_cores
from common.json_text import to_json

Variant = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One variant of a benchmark."""

    variant: str
    median_ms: float
    low_ms: float
    high_ms: float
    ratio: float
    """Speed-up over the reference variant: the median of the ratios of paired repeats."""
    memory_mb: float | None = None
    """Peak memory of the variant's process if it had one of its own; GPU memory if it ran on a GPU."""


@dataclass(frozen=True)
class Table:
    """Measurements of a benchmark at one setting; the first row is the reference implementation."""

    title: str
    unit: str
    """Unit of the times, such as "ms per image"."""
    rows: list[Row]
    limit: str
    """The limiting rate, measured in the same run, and the fraction of it that is reached."""


def compare(variants: Mapping[str, Variant], *, repeats: int, per: int = 1) -> list[Row]:
    """Time the variants interleaved, the first being the reference; times are per item, of `per` items per call."""
    for variant in variants.values():
        variant()  # warm up caches, allocators and lazy imports
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, variant in variants.items():
            started = time.perf_counter()
            variant()
            times[name].append((time.perf_counter() - started) * 1000 / per)
    return summarize(times)


def summarize(times: Mapping[str, list[float]], memory_mb: Mapping[str, float] | None = None) -> list[Row]:
    """Return a row for each variant's interleaved times in milliseconds; the first variant is the reference."""
    reference = times[next(iter(times))]
    return [
        Row(
            name,
            statistics.median(measured),
            min(measured),
            max(measured),
            statistics.median(before / after for before, after in zip(reference, measured, strict=True)),
            (memory_mb or {}).get(name),
        )
        for name, measured in times.items()
    ]


def hardware() -> dict[str, object]:
    """Return hardware, threads, torch version and system load."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    return gpu | {
        "processor": names[0] if names else platform.processor(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def synchronize(device: str) -> None:
    """Wait for a GPU's asynchronous work; return immediately on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(
    size: int = 1024, repeats: int = 20, dtype: torch.dtype = torch.float32, device: str = "cpu", products: int = 1
) -> float:
    """Measure a device's rate of matrix products in GFLOP/s; on a CPU with torch's current number of threads.

    The time is taken over `products` products; a GPU needs several, so that launch and synchronization are negligible.
    """
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))

    def multiply() -> None:
        for _ in range(products):
            left @ right
        synchronize(device)

    [row] = compare({"product": multiply}, repeats=repeats, per=products)
    return 2 * size**3 / row.median_ms / 1e6


def copy_rate(megabytes: int = 1024, repeats: int = 5) -> float:
    """Measure the rate of a copy within memory in GB/s, reads plus writes."""
    source = torch.ones(megabytes * 2**18)
    target = torch.empty_like(source)
    [row] = compare({"copy": lambda: target.copy_(source)}, repeats=repeats)
    return 2 * source.nbytes / row.median_ms / 1e6


def show(tables: Sequence[Table], out: Path | None) -> None:
    """Print a benchmark's tables and, if `out` is given, write them as JSON with the hardware."""
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
        out.write_text(to_json(content, indent=2) + "\n")


def _print_rows(table: Table) -> None:
    """Print one line per variant."""
    width = max(len(row.variant) for row in table.rows)
    has_memory = any(row.memory_mb for row in table.rows)
    memory = f"  {'peak memory':>12}" if has_memory else ""
    print(f"  {'':{width}}  {table.unit:>14}  {'range':>21}  {'vs. reference':>13}{memory}")
    for row in table.rows:
        memory = f"  {row.memory_mb or 0:9,.0f} MB" if has_memory else ""
        print(
            f"  {row.variant:{width}}  {row.median_ms:14.3f}  {row.low_ms:9.3f} .. {row.high_ms:8.3f}"
            f"  {row.ratio:12.2f}x{memory}"
        )
