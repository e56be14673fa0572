"""Files of token labels: written labels are read back, also for a subset, and other files are rejected."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from common.data.splits.subset import Subset
from common.data.token_labels.files import (
    MANIFEST,
    TokenLabelsDescription,
    count_correct,
    shard_is_complete,
    shard_path,
    write_shard,
)
from common.data.token_labels.reader import open_token_labels
from common.errors import UserError


def subset(indices, fingerprint="prints"):
    return Subset(indices=np.array(indices), num_images=40, class_counts={}, fingerprint=fingerprint)


@pytest.fixture
def labels(tmp_path):
    """Return labels of the 10 images at positions 0, 3, 6 ... in shards of 4; their values identify the image."""
    description = TokenLabelsDescription(
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
            num_correct=shard,
        )
    (tmp_path / MANIFEST).write_text(description.text())
    return tmp_path, description


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_partial_file_left_by_a_killed_process_is_replaced(labels, tmp_path, kind):
    folder, description = labels
    other = tmp_path / "others"
    other.write_text("precious")
    leftover = shard_path(folder, 7).with_name(f".{shard_path(folder, 7).name}.writing")
    leftover.symlink_to(other) if kind == "link" else leftover.touch(0o600)
    empty = np.zeros((0, 2, 3, 4))
    write_shard(
        shard_path(folder, 7), description, positions=np.zeros(0), classes=empty, probabilities=empty, num_correct=0
    )
    shard = shard_path(folder, 7)
    assert not shard.is_symlink() and shard.stat().st_mode == other.stat().st_mode
    assert other.read_text() == "precious" and not leftover.is_symlink()


def test_a_folder_in_the_home_folder_is_read(labels, monkeypatch):
    folder, _ = labels
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(open_token_labels(f"~/{folder.name}", subset([6, 9]), num_classes=300).read([0])[0]) == 1


def test_rows_are_those_of_the_images_for_any_subset(labels):
    folder, description = labels
    for positions in (np.arange(10) * 3, [6, 9, 27]):
        reader = pickle.loads(pickle.dumps(open_token_labels(folder, subset(positions), num_classes=300)))
        order = [len(positions) - 1, 0, 1, 0]
        classes, probabilities = reader.read(order)
        assert classes.shape == probabilities.shape == (4, 2, 3, 4)
        expected = torch.tensor([positions[index] for index in order])
        assert torch.equal(classes[:, 1, 2, 3], (expected + 253).int())
        assert torch.equal(probabilities[:, 0, 0, 0], (expected / 3 / 64).half())
    assert count_correct(folder, description) == 0 + 1 + 2
    assert description.num_bytes == 10 * 2 * 3 * 4 * 4


def test_a_reader_with_open_files_can_be_pickled(labels):
    reader = open_token_labels(labels[0], subset([0, 3]), num_classes=300)
    before = reader.read([1])
    assert torch.equal(pickle.loads(pickle.dumps(reader)).read([1])[0], before[0])


@pytest.mark.parametrize(
    ("chosen", "num_classes", "words"),
    [
        (subset([0, 3], fingerprint="others"), 300, ["someone", "other training images", "others", "prints"]),
        (subset([0, 4, 28]), 300, ["2 of the 3", "no token labels", "position 4"]),
        (subset([0, 3]), 10, ["300 classes", "10"]),
    ],
)
def test_labels_of_other_images_are_rejected(labels, chosen, num_classes, words):
    with pytest.raises(UserError) as caught:
        open_token_labels(labels[0], chosen, num_classes=num_classes)
    for word in ("token_labels.labels", str(labels[0]), *words):
        assert word in str(caught.value)


def test_an_unfinished_folder_and_damaged_files_are_rejected(labels):
    folder, description = labels
    path = shard_path(folder, 1)
    assert shard_is_complete(path, description) and not shard_is_complete(shard_path(folder, 9), description)
    with pytest.raises(UserError, match="another teacher"):
        shard_is_complete(path, dataclasses.replace(description, teacher_hash="other"))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="damaged"):
        shard_is_complete(path, description)
    with pytest.raises(UserError, match="labels-00001"):
        open_token_labels(folder, subset([0]), num_classes=300)
    (folder / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(UserError, match="not a valid description"):
        open_token_labels(folder, subset([0]), num_classes=300)
    (folder / MANIFEST).unlink()
    with pytest.raises(UserError, match="no finished folder"):
        open_token_labels(folder, subset([0]), num_classes=300)
