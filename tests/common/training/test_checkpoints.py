"""Checkpoints: whole or not at all, the newest whole one counts, what is kept."""

import hashlib
from pathlib import Path

import pytest
import torch

from common.training import checkpoints
from common.training.checkpoints import Checkpoint, Checkpoints


def save(folder: Path, step: int, *, keep: int = 2, milestone: bool = False) -> None:
    tensors = {"weight": torch.full((3,), float(step))}
    Checkpoints(folder, keep=keep).write(step, tensors, {"note": step}, milestone=milestone)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    return Checkpoints(folder, keep=2).read_newest()


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
        (tmp_path / f"step-{step:09d}" / checkpoints.TENSORS).write_bytes(b"damaged")
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
        patch.setattr(checkpoints, "flush", disk_full)
        save(tmp_path, 2)
    assert not list(tmp_path.glob(".writing-*"))
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    save(tmp_path, 3)
    assert steps(tmp_path) == [1, 3] and not list(tmp_path.glob(".writing-*"))


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", [checkpoints.TENSORS, checkpoints.VALUES, checkpoints.SUMS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_any_damage_to_any_file_is_seen(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = tmp_path / "step-000000002" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    torn = {"flipped": bytes(content), "cut": bytes(content[:-3]), "empty": b""}
    path.unlink() if damage == "gone" else path.write_bytes(torn[damage])
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert "step-000000002 is damaged" in caplog.text


def test_the_sums_are_such_as_sha256sum_reads(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "step-000000001"
    for line in (folder / checkpoints.SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_milestones_are_kept_beside_the_last(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step, keep=2, milestone=step in (2, 4))
    assert steps(tmp_path) == [2, 4, 6, 7]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / "step-000000002" / checkpoints.VALUES).write_text("")
    save(tmp_path, 2)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 2 and steps(tmp_path) == [1, 2]
    assert not list(tmp_path.glob(".*"))


def test_a_whole_checkpoint_is_not_written_again(tmp_path: Path) -> None:
    """A state that is on the disk must not be at risk a second time; a milestone only gets its mark."""
    save(tmp_path, 2)
    mine = Checkpoints(tmp_path, keep=1)
    assert mine.read_newest() is not None
    before = (tmp_path / "step-000000002" / checkpoints.TENSORS).stat().st_mtime_ns
    mine.write(2, {}, {}, milestone=True)
    mine.write(3, {"weight": torch.ones(1)}, {})
    assert steps(tmp_path) == [2, 3]
    assert (tmp_path / "step-000000002" / checkpoints.TENSORS).stat().st_mtime_ns == before


def test_leftovers_of_a_kill_are_removed(tmp_path: Path) -> None:
    for name in (".writing-000000004", ".damaged-000000003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / checkpoints.TENSORS).write_bytes(b"half")
    save(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]
