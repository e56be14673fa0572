"""Checkpoints of torch.distributed.checkpoint as starting weights: tensors alone are read, and nothing of them is executed."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import _save_state_dict

from common.errors import UserError
from common.models.weight_files import read_weights
from recipes.study.inputs import input_digests

WEIGHTS = {f"layers.{i}.weight": torch.full((8, 16), float(i)) for i in range(4)}


def save(folder: Path, content: dict[str, Any], *, one_file: bool = True) -> Path:
    """Write a checkpoint of one process, in one file or in one for each tensor."""
    _save_state_dict(content, FileSystemWriter(folder, single_file_per_rank=one_file), no_dist=True)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a checkpoint of a model, the moments of its optimizer, and what is no tensor."""
    moments = {name: torch.zeros_like(value) for name, value in WEIGHTS.items()}
    return save(
        tmp_path / "step-7", {"model": WEIGHTS, "optimizer": {"exp_avg": moments}, "step": 7, "args": Path("x")}
    )


def test_tensors_of_the_model_are_read(checkpoint: Path) -> None:
    for init in (str(checkpoint), f"local-dir:{checkpoint}"):
        found = read_weights(init).network.tensors
        assert sorted(found) == sorted(WEIGHTS)
        assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


def test_tensors_that_are_not_nested_and_in_several_files_are_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "flat", dict(WEIGHTS), one_file=False)
    assert len(list(folder.glob("*.distcp"))) > 1
    found = read_weights(str(folder)).network.tensors
    assert all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


def test_a_missing_file_is_named(checkpoint: Path) -> None:
    (checkpoint / "__0_0.distcp").unlink()
    with pytest.raises(
        UserError, match=r"lacks 1 of the 1 files that its \.metadata names: '__0_0\.distcp'; copy the files of all"
    ):
        read_weights(str(checkpoint))


class _FileToucher:
    """Create a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


def test_metadata_that_execute_code_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / ".metadata").write_bytes(pickle.dumps(_FileToucher(str(tmp_path / "executed"))))
    with pytest.raises(UserError, match=r"it is damaged, or contains more than tensors"):
        read_weights(str(checkpoint))
    assert not (tmp_path / "executed").exists()


def test_an_entry_that_executes_code_is_not_read(tmp_path: Path) -> None:
    folder = save(tmp_path / "step", {"model": WEIGHTS, "args": _FileToucher(str(tmp_path / "executed"))})
    assert sorted(read_weights(str(folder)).network.tensors) == sorted(WEIGHTS)
    assert not (tmp_path / "executed").exists()


def test_damaged_files_are_named(checkpoint: Path) -> None:
    file = checkpoint / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(UserError, match=r"step-7 cannot be read as a checkpoint of torch.distributed.checkpoint"):
        read_weights(str(checkpoint))
    (checkpoint / ".metadata").write_bytes(b"")
    with pytest.raises(UserError, match=r"step-7 cannot be read as a checkpoint"):
        read_weights(str(checkpoint))


def test_identity_covers_the_tensors(checkpoint: Path) -> None:
    before = input_digests({"init": str(checkpoint)})
    file = checkpoint / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert input_digests({"init": str(checkpoint)}) != before
