"""Tar shards: building their index, starts over an index of 14.2 million images, random reads compared with files.

ImageNet-21k has 14,197,122 images in 21,841 classes, 1.3 TB. Its index is synthetic: every image of it lies in one small shard. So
the index has its full size, and the start does everything that it does with the real images.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.startup import probe, probe_processes
from benchmarks.synthetic_datasets import NUM_DISTINCT, write_tar
from benchmarks.timing import Table, compare, summarize
from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.sources.shards.index import ShardIndex, ShardPart, build_index
from common.data.sources.shards.index_store import fingerprint
from common.data.sources.shards.places import LocalShard
from common.data.sources.shards.samples import read_samples
from common.data.sources.shards.tar_images import TarImages

IMAGES, CLASSES = 14_197_122, 21_841
BUILT = 50_000
"""Images of the shard whose index is built."""
PROCESSES = 2


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *read_shard(folder, repeats=repeats),
            *start(folder, repeats=min(repeats, 3)),
        ]


def read_shard(folder: Path, *, repeats: int) -> list[Table]:
    """Time the index of a shard, and reads of its images at random positions."""
    shard, files, stored = LocalShard(folder / "built.tar", folder), folder / "files", folder / "built"
    write_tar(shard.path, images=BUILT, classes=CLASSES)
    index = build_index([ShardPart(read_samples(shard, label_column=None))])
    stored.mkdir()
    index.save(stored)
    files.mkdir()
    names = index.all_names()
    images = TarImages(ShardIndex.load(stored), stored, [shard], decoder=ImageDecoder())
    for number, each in enumerate(names):
        (files / each).write_bytes(images.content(number))
    plain = FileImages(files, names, decoder=ImageDecoder())
    order = np.random.default_rng(0).permutation(BUILT)[:10_000].tolist()
    built = compare(
        {"index of a shard": lambda: build_index([ShardPart(read_samples(shard, label_column=None))])},
        repeats=repeats,
        per=BUILT,
    )
    reads = compare(
        {
            "files of a folder": lambda: [plain.content(number) for number in order],
            "members of a tar shard": lambda: [images.content(number) for number in order],
        },
        repeats=repeats,
        per=len(order),
    )
    minutes = built[0].median_ms * IMAGES / 60_000
    return [
        Table(
            "Index of tar shards, from their headers",
            "ms per image",
            built,
            f"{minutes:.1f} min for {IMAGES:,} images on one core, once; a disk may take longer",
        ),
        Table("Reads at random, files in the page cache", "ms per image", reads, "an open, a read, a close for each"),
    ]


def start(folder: Path, *, repeats: int) -> list[Table]:
    """Time starts of a pre-training over a stored index of ImageNet-21k's size, in one process and in several."""
    source, cache = folder / "shards", folder / "cache"
    store_index(source, cache)
    words = [f"data.source={source}", "data.workers=1", "data.cache_megabytes=0"]
    launch = ["-m", "common.launch", "--multi_gpu", "--num_processes", str(PROCESSES), "-m", "benchmarks.startup_probe"]
    alone = [probe(str(source), folder / f"run {number}", cache=cache) for number in range(repeats)]
    together = [
        probe_processes([*launch, str(folder / f"runs {number}"), *words], cache=cache) for number in range(repeats)
    ]
    times = {
        "to the end of the first step": [1000 * each["seconds"]["all"] for each in alone],
        "CPU time of it": [1000 * each["cpu"]["all"] for each in alone],
        f"{PROCESSES} processes, the slower one": [
            1000 * max(process["seconds"]["all"] for process in processes) for processes in together
        ],
        **{
            part: [1000 * each["seconds"][part] for each in alone]
            for part in ("open source", "read labels", "split", "subset", "fingerprint, manifest", "sampler")
        },
    }
    peaks = [sorted(process["memory"]["peak"] for process in processes) for processes in together]
    worker = max(process["memory"]["workers"] for processes in [alone, *together] for process in processes)
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) / 1e6
    main, others = (max(each[place] for each in peaks) for place in (-1, -2))
    limit = (
        f"the index has {size:.0f} MB on disk, which processes share; of {PROCESSES} processes the larger has at most {main:.0f}"
        f" MB and the other {others:.0f} MB, the mapped index included; a worker has {worker:.0f} MB of its own"
    )
    return [Table(f"Start of a pre-training over an index of {IMAGES:,} images", "ms", summarize(times), limit)]


def store_index(source: Path, cache: Path) -> None:
    """Write a small shard, and in the cache an index of it in which its images appear as often as ImageNet-21k has images."""
    source.mkdir()
    shard = source / "train-0000.tar"
    write_tar(shard, images=NUM_DISTINCT, classes=CLASSES)
    place = LocalShard(shard, source)
    one = build_index([ShardPart(read_samples(place, label_column=None))])
    chosen = np.random.default_rng(0).integers(0, NUM_DISTINCT, IMAGES)
    labels = np.random.default_rng(1).permutation(np.arange(IMAGES) % CLASSES)
    names = [f"n{number % CLASSES:08d}_{number:07d}.JPEG".encode() for number in range(IMAGES)]
    index = ShardIndex(
        shard_ends=np.array([IMAGES]),
        offsets=one.offsets[chosen],
        sizes=one.sizes[chosen],
        labels=labels.astype(np.int32),
        name_ends=np.cumsum([len(name) for name in names]),
        names=np.frombuffer(b"".join(names), np.uint8),
        class_names=tuple(f"n{number:08d}" for number in range(CLASSES)),
    )
    folder = cache / "two_stage_vit_indexes" / fingerprint([place], label_column=None)
    folder.mkdir(parents=True)
    index.save(folder)
