"""Sample crops: the views of the first training images that a run's pre-training and fine-tuning feed to the network.

They are made again from the run's recipe, with the same random numbers, which depend on seed, epoch and image alone. Normalization,
mixup, cutmix and random erasing come after them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError
from recipes.reports.comparison.findings import Findings
from recipes.reports.picture_files import Picture, Pixels, digest_of, encode, fit, in_a_row, stored_pictures
from recipes.reports.results import RunRecord, StudyRecord
from recipes.reports.run_images import load_config, open_run_splits, read_recipe

NUM_IMAGES = 3
NUM_EPOCHS = 6
"""Number of epochs whose view of an image is shown, where an epoch has one view of it."""
MOST_GLOBAL, MOST_LOCAL = 2, 6
SIDE = 96
MOST_BYTES = 5500
"""Size of a row of views."""


@dataclass(frozen=True)
class StageCrops:
    """Rows of views, one per training image, each beginning with the image; or why there are none."""

    stage: str
    run: str
    what: str
    """What the views of a row are."""
    rows: Sequence[Picture]
    reason: str


def sample_crops(study: StudyRecord, findings: Findings) -> list[StageCrops]:
    """Return the sample crops of every stage of one run: of the first claim's other arm at the largest x, with its first repeat."""
    levels = {**findings.claims[0].levels, findings.main.axis: findings.main.other, findings.spec.x: findings.x[-1]}
    cells = [cell for cell in study.plan.cells if all(cell.levels[axis] == level for axis, level in levels.items())]
    names = next((list(cell.runs.values()) for cell in cells if study.final_run(cell).is_usable), [])
    found = [stage_crops(study.runs[name], study.folder) for name in names if study.runs[name].result is not None]
    return [each for each in found if each is not None]


def stage_crops(run: RunRecord, folder: Path) -> StageCrops | None:
    """Return the sample crops of a run, from the study's folder or from its data; None without a recipe that augments images."""
    try:
        recipe = read_recipe(run)
    except UserError:
        return None
    has_crops = "crops" in recipe
    if not has_crops and ("augment" not in recipe or recipe.get("objective") == "reid"):
        return None
    what = f"its views in epochs 1 to {NUM_EPOCHS}"
    if has_crops:
        what = (
            "its global views"
            + (", then local ones" if recipe["crops"].get("num_local") else "")
            + ", in the first epoch"
        )
    try:
        pictures = stored_pictures(folder, f"crops_{run.planned.stage}", _digest(recipe), lambda: _make(run, has_crops))
    except UserError as error:
        return StageCrops(run.planned.stage, run.planned.id, what, (), str(error).splitlines()[0])
    return StageCrops(run.planned.stage, run.planned.id, what, tuple(pictures.values()), "")


def _digest(recipe: Any) -> str:
    """Return a hash of what the views depend on."""
    train = recipe.get("train") or {}
    content = {
        "data": {key: value for key, value in recipe["data"].items() if key not in ("workers", "cache_megabytes")},
        "crops": recipe.get("crops"),
        "augment": recipe.get("augment"),
        "seed": train.get("seed"),
        "batch_size": train.get("batch_size"),
        "form": [NUM_IMAGES, NUM_EPOCHS, SIDE, MOST_BYTES],
    }
    return digest_of(content)


def _make(run: RunRecord, has_crops: bool) -> dict[str, bytes]:
    """Return the encoded rows of views; raise UserError if the data is gone."""
    config = load_config(run)
    if config.data.duplicates == "drop":
        raise UserError("data.duplicates=drop excludes training images, and finding them takes decoding all of them")
    train = open_run_splits(config.data, labeled=not has_crops).train
    make = _multi_crop_rows if has_crops else _supervised_rows
    return {
        f"row {number}": encode(in_a_row(row), MOST_BYTES) for number, row in enumerate(make(config, train), start=1)
    }


def _multi_crop_rows(config: Any, train: Any) -> list[list[Pixels]]:
    """Return the rows of pre-training: each image of the first batch with its views."""
    from common.data.augment.multi_crop import build_multi_crop
    from common.data.loading.sampler import EpochSampler
    from common.data.loading.shard_order import build_shard_order

    order = build_shard_order(config.train.shuffle_shards, config.data, train)
    sampler = EpochSampler(len(train), config.train.batch_size, config.train.seed, shard_order=order)
    keys = next(sampler.batches(0))[:NUM_IMAGES]
    images = [train.image(key.index) for key in keys]
    views = build_multi_crop(config.crops, config.train.seed, color_in_worker=True)(images, keys)
    largest = config.crops.global_size
    rows = []
    for sample, image in enumerate(images):
        row = [fit(image, SIDE)]
        for block, most in zip(views.blocks, (MOST_GLOBAL, MOST_LOCAL), strict=False):
            side = max(1, round(SIDE * block.shape[-1] / largest))
            row += [fit(_pixels(view[sample]), side) for view in block[:most]]
        rows.append(row)
    return rows


def _supervised_rows(config: Any, train: Any) -> list[list[Pixels]]:
    """Return the rows of supervised training: each image of the first batch with its view in every one of the first epochs."""
    from common.data.augment.supervised import build_supervised_transform
    from common.data.loading.sampler import EpochSampler
    from common.data.loading.shard_order import build_shard_order

    sampler = EpochSampler(
        len(train),
        config.train.batch_size,
        config.train.seed,
        repeats=config.augment.aug_repeats,
        shard_order=build_shard_order(config.train.shuffle_shards, config.data, train),
    )
    first = [key for key in next(sampler.batches(0)) if key.repeat == 0][:NUM_IMAGES]
    images = [train.image(key.index) for key in first]
    transform = build_supervised_transform(
        config.augment, config.data.image_size, config.train.seed, mean=config.data.mean
    )
    epochs = range(min(NUM_EPOCHS, config.train.epochs))
    views = [transform(images, [key._replace(epoch=epoch) for key in first]).blocks[0][0] for epoch in epochs]
    return [
        [fit(image, SIDE), *(fit(_pixels(block[sample]), SIDE) for block in views)]
        for sample, image in enumerate(images)
    ]


def _pixels(view: Any) -> Pixels:
    """Return a view (3, H, W) as pixels (H, W, 3)."""
    return np.ascontiguousarray(view.permute(1, 2, 0).numpy())
