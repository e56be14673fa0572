"""Start-up: time and memory up to the first step, and of each part, for datasets from the digits to 1.28 million rows."""

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.synthetic_datasets import write_folders, write_tables
from benchmarks.timing import Table, compare, summarize
from common.data.images.decode import ImageDecoder
from common.data.loading.sampler import EpochSampler
from common.data.sources.folders import FolderSource
from common.data.sources.label_values import read_labels
from common.data.splits.subset import draw_subset

ROWS, CLASSES, BATCH = 1_281_167, 1000, 256
SETS = {
    "digits, 1,797 images in memory": None,
    "tables of 50,000 rows": (50_000, 10, 5),
    "tables of 1,281,167 rows": (ROWS, CLASSES, 50),
}
FOLDERS = "class folders of 1,281,167 files"
INDEX_PARTS = ("open source", "read labels", "split", "subset", "fingerprint, manifest", "sampler")


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = make_sets(folder)
        starts = time_starts(sources, folder, repeats=min(repeats, 3))
        return [
            *(describe_start(title, each) for title, each in starts.items()),
            describe_growth(starts),
            *compare_with_loops(folder / "tables of 1,281,167 rows", folder / FOLDERS, repeats=min(repeats, 3)),
        ]


def make_sets(folder: Path) -> dict[str, str]:
    """Write the datasets; return the data.source of each."""
    sources = {}
    for title, size in SETS.items():
        sources[title] = str(folder / title) if size else "digits"
        if size:
            (folder / title).mkdir()
            write_tables(folder / title, rows=size[0], classes=size[1], shards=size[2])
    write_folders(folder / FOLDERS, files=ROWS, classes=CLASSES)
    return {**sources, FOLDERS: str(folder / FOLDERS)}


def time_starts(sources: dict[str, str], folder: Path, *, repeats: int) -> dict[str, list[dict[str, dict[str, float]]]]:
    """Return seconds and memory of interleaved starts from each source; the first start of each, uncached, comes first."""
    starts: dict[str, list[dict[str, dict[str, float]]]] = {title: [] for title in sources}
    for repeat in range(repeats + 1):
        for title, source in sources.items():
            out = folder / "runs" / f"{repeat} {title}"
            starts[title].append(probe(source, out, cache=folder / "cache"))
    return starts


def probe(source: str, out: Path, *, cache: Path) -> dict[str, dict[str, float]]:
    """Start a pre-training in a process of its own with one thread and one worker; only `datasets` caches."""
    words = [f"data.source={source}", "data.workers=1", "data.cache_megabytes=0"]
    [found] = probe_processes(["-m", "benchmarks.startup_probe", str(out), *words], cache=cache)
    return found


def probe_processes(words: list[str], *, cache: Path) -> list[dict[str, dict[str, float]]]:
    """Run Python with these arguments; return what each of the probes that it starts has printed."""
    printed = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(cache), "ACCELERATE_USE_CPU": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
        text=True,
    ).stdout
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def describe_start(title: str, starts: list[dict[str, dict[str, float]]]) -> Table:
    """Return the table of a dataset's start: the total, then its parts."""
    first, *others = starts
    times = {
        part: [1000 * start["seconds"].get(part, 0.0) for start in others]
        for part in ("all", *(name for name in others[0]["seconds"] if name != "all"))
    }
    index = statistics.median(sum(start["seconds"].get(part, 0.0) for part in INDEX_PARTS) for start in others)
    subset = statistics.median(
        sum(start["seconds"].get(part, 0.0) for part in ("split", "subset", "sampler")) for start in others
    )
    worker = max(start["memory"]["workers"] for start in others)
    limit = (
        f"the index (open, labels, hold-outs, subset, fingerprint, sampler) takes {index:.2f} s, hold-outs, subset and sampler"
        f" {subset:.2f} s of it; the first start takes {first['seconds']['all']:.1f} s; a worker has {worker:.0f} MB of its own"
    )
    return Table(f"Start of a pre-training to the end of its first step, {title}", "ms", summarize(times), limit)


def describe_growth(starts: dict[str, list[dict[str, dict[str, float]]]]) -> Table:
    """Return the table that compares the datasets, without imports."""
    imports = ("import torch", "import the rest")
    times = {
        title: [
            1000 * (start["seconds"]["all"] - sum(start["seconds"][part] for part in imports)) for start in others[1:]
        ]
        for title, others in starts.items()
    }
    peaks = {title: max(start["memory"]["peak"] for start in others[1:]) for title, others in starts.items()}
    limit = (
        "imports, the same for all, are excluded; up to 20,000 images are all decoded once, otherwise 1,000 per split"
    )
    return Table("Start-up by size of the dataset", "ms", summarize(times, peaks), limit)


def compare_with_loops(tables: Path, folders: Path, *, repeats: int) -> list[Table]:
    """Time parts of the index compared with reference implementations."""
    import datasets
    from torchvision.datasets import ImageFolder

    opened = datasets.load_dataset("parquet", data_files=[str(path) for path in sorted(tables.iterdir())])["train"]
    column, feature = opened.data.column("label"), opened.features["label"]
    labels = read_labels(column, feature, title="the column")[0]
    number = f"{ROWS} images"
    parts = {
        f"Labels of {number}": {
            "reference: the column as a list": lambda: [int(label) for label in opened["label"]],
            "ours: lookup of distinct values": lambda: read_labels(column, feature, title="the column"),
        },
        f"A subset of a tenth of {number}": {
            "reference: a list of positions per class": lambda: loop_subset(labels.tolist(), 0.1),
            "ours": lambda: draw_subset(labels, fraction=0.1, seed=0),
        },
        f"The first batch of an epoch of {number}": {
            "reference: random.shuffle": lambda: loop_epoch(ROWS),
            "ours": lambda: next(EpochSampler(ROWS, BATCH, 0).batches(0)),
        },
        f"Finding {ROWS} files in class folders": {
            "reference: torchvision's ImageFolder": lambda: len(ImageFolder(str(folders))),
            "ours": lambda: len(FolderSource(folders, decoder=ImageDecoder()).read("train", labeled=True)),
        },
    }
    limits = (
        "Python iterates over 1,000 values instead of every row",
        f"a copy of the labels takes {_copy_milliseconds(labels):.1f} ms",
        "a permutation by numpy",
        "the folders are listed once; no file's type is checked twice",
    )
    return [
        Table(title, "ms", compare(variants, repeats=repeats), limit)
        for (title, variants), limit in zip(parts.items(), limits, strict=True)
    ]


def loop_subset(labels: list[int], fraction: float) -> list[int]:
    """Draw a stratified subset with Python loops."""
    positions = defaultdict(list)
    for position, label in enumerate(labels):
        positions[label].append(position)
    drawn = (random.Random(label).sample(rows, round(fraction * len(rows))) for label, rows in positions.items())
    return sorted(position for rows in drawn for position in rows)


def loop_epoch(rows: int) -> list[int]:
    """Shuffle an epoch with random.shuffle and return the first batch."""
    order = list(range(rows))
    random.Random(0).shuffle(order)
    return order[:BATCH]


def _copy_milliseconds(labels: np.ndarray) -> float:
    """Return the time of a copy in milliseconds."""
    [row] = compare({"copy": labels.copy}, repeats=5)
    return row.median_ms
