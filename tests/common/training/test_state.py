"""Checkpoints: whole or not at all, the newest whole one counts, what is kept."""

from pathlib import Path

import pytest
import torch

from common.training import state
from common.training.state import newest_checkpoint, save_checkpoint


def save(folder: Path, step: int) -> None:
    save_checkpoint(folder, step, {"weight": torch.full((3,), float(step))}, {"note": step})


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in sorted(folder.glob("step-*"))]


def test_the_newest_comes_back_and_two_are_kept(tmp_path: Path) -> None:
    for step in (3, 9, 12):
        save(tmp_path, step)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint.step == 12 and checkpoint.values == {"note": 12}
    assert torch.equal(checkpoint.tensors["weight"], torch.full((3,), 12.0))
    assert steps(tmp_path) == [9, 12]


def test_after_two_damaged_ones_the_new_one_is_kept_and_they_go(tmp_path: Path) -> None:
    for step in (7, 8):
        save(tmp_path, step)
        (tmp_path / f"step-{step:09d}" / state.TENSORS).write_bytes(b"damaged")
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 6)
    assert steps(tmp_path) == [6]
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 6


def test_a_write_that_dies_leaves_the_former_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(state, "_flush", disk_full)
        save(tmp_path, 2)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    save(tmp_path, 3)
    assert steps(tmp_path) == [1, 3] and not list(tmp_path.glob(".writing-*"))


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere") is None
