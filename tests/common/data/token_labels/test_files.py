"""Tests of the files of dense labels: what is written is read back, for a subset too, and nothing else is taken."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from common.data.splits.subset import Subset
from common.data.token_labels.files import (
    MANIFEST,
    DenseLabelsDescription,
    count_right,
    open_dense_labels,
    shard_is_whole,
    shard_path,
    write_shard,
)
from common.errors import UserError


def subset(indices, fingerprint="prints"):
    return Subset(indices=np.array(indices), num_images=40, class_counts={}, fingerprint=fingerprint)


@pytest.fixture
def labels(tmp_path):
    """Labels of the 10 images at positions 0, 3, 6 ... in shards of 4, whose numbers say which image they are of."""
    description = DenseLabelsDescription(
        fingerprint="prints", num_images=10, positions_hash="", num_classes=300, teacher="someone", teacher_hash="",
        image_size=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), precision="fp32", grid=(2, 3), kept=4, shard_images=4,
    )  # fmt: skip
    positions = np.arange(10) * 3
    classes = np.broadcast_to(positions[:, None, None, None], (10, 2, 3, 4)) + np.arange(4) + 250
    probabilities = np.broadcast_to(np.arange(10)[:, None, None, None] / 64, (10, 2, 3, 4))
    for shard in range(3):
        rows = slice(4 * shard, 4 * shard + 4)
        write_shard(
            shard_path(tmp_path, shard),
            description,
            positions=positions[rows],
            classes=classes[rows],
            probabilities=probabilities[rows],
            num_right=shard,
        )
    (tmp_path / MANIFEST).write_text(description.text())
    return tmp_path, description


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_a_kill_left_of_a_shard_lends_it_nothing(labels, tmp_path, kind):
    folder, description = labels
    other = tmp_path / "others"
    other.write_text("precious")
    leftover = shard_path(folder, 7).with_name(f".{shard_path(folder, 7).name}.writing")
    leftover.symlink_to(other) if kind == "link" else leftover.touch(0o600)
    none = np.zeros((0, 2, 3, 4))
    write_shard(
        shard_path(folder, 7), description, positions=np.zeros(0), classes=none, probabilities=none, num_right=0
    )
    shard = shard_path(folder, 7)
    assert not shard.is_symlink() and shard.stat().st_mode == other.stat().st_mode
    assert other.read_text() == "precious" and not leftover.is_symlink()


def test_rows_are_found_by_the_image_whatever_the_subset(labels):
    folder, description = labels
    for positions in (np.arange(10) * 3, [6, 9, 27]):
        reader = pickle.loads(pickle.dumps(open_dense_labels(folder, subset(positions), num_classes=300)))
        order = [len(positions) - 1, 0, 1, 0]
        classes, probabilities = reader.read(order)
        assert classes.shape == probabilities.shape == (4, 2, 3, 4)
        wanted = torch.tensor([positions[index] for index in order])
        assert torch.equal(classes[:, 1, 2, 3], (wanted + 253).int())
        assert torch.equal(probabilities[:, 0, 0, 0], (wanted / 3 / 64).half())
    assert count_right(folder, description) == 0 + 1 + 2
    assert description.num_bytes == 10 * 2 * 3 * 4 * 4


def test_a_reader_with_open_files_goes_to_a_worker(labels):
    reader = open_dense_labels(labels[0], subset([0, 3]), num_classes=300)
    before = reader.read([1])
    assert torch.equal(pickle.loads(pickle.dumps(reader)).read([1])[0], before[0])


@pytest.mark.parametrize(
    ("chosen", "num_classes", "words"),
    [
        (subset([0, 3], fingerprint="others"), 300, ["someone", "other training images", "others", "prints"]),
        (subset([0, 4, 28]), 300, ["2 of the 3", "no dense labels", "position 4"]),
        (subset([0, 3]), 10, ["300 classes", "10"]),
    ],
)
def test_labels_of_other_images_are_refused(labels, chosen, num_classes, words):
    with pytest.raises(UserError) as caught:
        open_dense_labels(labels[0], chosen, num_classes=num_classes)
    for word in ("token_labels.labels", str(labels[0]), *words):
        assert word in str(caught.value)


def test_an_unfinished_folder_and_damaged_files_are_refused(labels):
    folder, description = labels
    path = shard_path(folder, 1)
    assert shard_is_whole(path, description) and not shard_is_whole(shard_path(folder, 9), description)
    with pytest.raises(UserError, match="another teacher"):
        shard_is_whole(path, dataclasses.replace(description, teacher_hash="other"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="damaged"):
        shard_is_whole(path, description)
    with pytest.raises(UserError, match="labels-00001"):
        open_dense_labels(folder, subset([0]), num_classes=300)
    (folder / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(UserError, match="no such file"):
        open_dense_labels(folder, subset([0]), num_classes=300)
    (folder / MANIFEST).unlink()
    with pytest.raises(UserError, match="no finished folder"):
        open_dense_labels(folder, subset([0]), num_classes=300)
