"""Orders over shards: every image once, few shards at a time, evenly mixed, and the same after resuming."""

from pathlib import Path

import numpy as np
import pytest
from conftest import problems_of
from tar_shards import write_labeled

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.loading.sampler import EpochSampler
from common.data.loading.shard_order import ShardOrder, build_shard_order
from common.data.open_splits import open_splits
from common.data.sources.digits import DigitsSource
from common.errors import UserError
from common.rng import generator
from finetune.config import FinetuneConfig

SHARDS = np.repeat(np.arange(50), 20)


@pytest.mark.parametrize("window", [1, 4, 50, 1000])
def test_every_image_comes_once(window: int) -> None:
    """Whatever the window is, and in another order in another epoch."""
    orders = [ShardOrder(SHARDS, window).permutation(generator(0, epoch=epoch)) for epoch in range(2)]
    assert all(sorted(order) == [*range(len(SHARDS))] for order in orders) and (orders[0] != orders[1]).any()


@pytest.mark.parametrize("window", [1, 4])
def test_few_shards_are_read_at_a_time(window: int) -> None:
    """A stretch of a shard's length has images of the window's shards, and of no less than half of them."""
    order = SHARDS[ShardOrder(SHARDS, window).permutation(generator(0))]
    mixed = [len(set(order[start : start + 20])) for start in range(0, len(SHARDS), 20)]
    assert max(mixed) <= window + 3 and min(mixed) >= max(1, window / 2)


def test_the_sampler_follows_it() -> None:
    """The batches are those of the order, from any step on, for one process and for two."""
    order = ShardOrder(SHARDS, 4)
    one = [[key.index for key in keys] for keys in EpochSampler(1000, 8, 3, shard_order=order).batches(1)]
    assert sum(one, []) == order.permutation(generator(3, epoch=1, stream="order")).tolist()
    two = [EpochSampler(1000, 8, 3, rank=rank, num_processes=2, shard_order=order).batches(1, 100) for rank in (0, 1)]
    halves = [[key.index for key in next(batches)] for batches in two]
    assert sum(halves, []) == one[100]


def test_images_without_shards_are_refused() -> None:
    """The digits lie in no files."""
    split = DigitsSource(decoder=ImageDecoder()).read("train", labeled=True)
    assert build_shard_order(None, DataConfig(), split) is None
    with pytest.raises(UserError, match="train.shuffle_shards is 2, but data.source 'digits' has no shards"):
        build_shard_order(2, DataConfig(), split)


def test_one_shard_has_no_order_over_shards(tmp_path: Path) -> None:
    write_labeled(tmp_path / "train-0.tar", range(8))
    config = DataConfig(source=str(tmp_path))
    with pytest.raises(UserError, match="are read as one shard"):
        build_shard_order(2, config, open_splits(config, labeled=True).train)


def test_a_limit_of_the_copies_needs_the_order() -> None:
    """Otherwise copies would be removed and made again all the time."""
    split = DigitsSource(decoder=ImageDecoder()).read("train", labeled=True)
    with pytest.raises(UserError, match="data.stage_gigabytes is 5, but without train.shuffle_shards"):
        build_shard_order(None, DataConfig(stage_to="node", stage_gigabytes=5), split)


def test_re_identification_refuses_it() -> None:
    """Its batches are drawn by identity."""
    found = problems_of(FinetuneConfig, out="runs/x", objective="reid", train={"shuffle_shards": 2})
    assert "objective=reid draws batches by identity" in found["train.shuffle_shards"]
