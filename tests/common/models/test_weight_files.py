"""Sources of weights that are missing, damaged, unsafe or unsupported are rejected with the choices."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from common.errors import UserError
from common.models.pickled_tensors import _OF_CLIP
from common.models.weight_files import read_weights
from recipes.study.inputs import input_digests

WEIGHTS = {f"layers.{i}.weight": torch.ones(32, 64) for i in range(8)}


def test_name_without_published_weights_is_rejected() -> None:
    with pytest.raises(UserError, match="init: 'vit_small' could not be downloaded.*No pretrained weights exist"):
        read_weights("vit_small")


def test_truncated_safetensors_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"w\.safetensors is not a complete safetensors file"):
        read_weights(str(path))
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"w\.safetensors is not a complete safetensors file"):
        read_weights(str(path))


class _FileToucher:
    """Create a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_pickle_that_executes_code_is_not_loaded(tmp_path: Path, save: Any) -> None:
    save({"teacher": _FileToucher(str(tmp_path / "executed"))}, tmp_path / "malicious.pth")
    with pytest.raises(UserError, match=r"malicious\.pth cannot be read as weights only.*not loaded"):
        read_weights(str(tmp_path / "malicious.pth"))
    assert not (tmp_path / "executed").exists()


def test_truncated_pickle_is_named(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.pth cannot be read as weights only: it is truncated"):
        read_weights(str(tmp_path / "cut.pth"))


@pytest.mark.parametrize("init", ["runs/absent", "absent.safetensors", "vit_nothing", "local-dir:absent"])
def test_missing_source_lists_the_choices(init: str) -> None:
    with pytest.raises(UserError, match=r"init: .*is not a file.*run folder.*timm:<name>, hf-hub:<id>"):
        read_weights(init)


def test_folder_without_weights_and_unsupported_file_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has neither export/model\.safetensors nor model\.safetensors"):
        read_weights(str(tmp_path))
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(UserError, match=r"notes\.txt is not a supported file type"):
        read_weights(str(tmp_path / "notes.txt"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth has no named tensors"):
        read_weights(str(tmp_path / "list.pth"))


@pytest.mark.parametrize(
    "content", [{}, {"teacher": {}}, [1, 2], torch.zeros(3), {"model": {"a": {"b": torch.zeros(1)}}}]
)
def test_file_without_named_tensors_is_rejected_with_the_choices(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"init: .*w\.pth has no .*tensors.*; use a run folder"):
        read_weights(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + b"\0" * 60])
def test_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"init: .*w\.pth cannot be read as weights only"):
        read_weights(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("init", ["a" * 5000, "b/" * 3000, "~nobody-by-this-name/run", "local-dir:" + "c" * 5000])
def test_invalid_path_is_rejected(init: str) -> None:
    with pytest.raises(UserError, match="init = .*: this path cannot be looked up"):
        read_weights(init)


def test_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        read_weights(str(tmp_path / "weights.pth"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "ViT-B-32.pt",
            r"is OpenAI's CLIP as a TorchScript archive, .* timm:vit_base_patch32_clip_quickgelu_224\.openai, the same weights$",
        ),
        ("other.pt", r"is a TorchScript archive, .* use the state_dict of its network$"),
    ],
)
def test_torchscript_archive_is_named(tmp_path: Path, name: str, words: str) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / name))
    with pytest.raises(UserError, match=rf"^init: .*{words}"):
        read_weights(str(tmp_path / name))


def test_names_that_stand_for_archives_of_clip_are_timms() -> None:
    assert all(timm.get_pretrained_cfg(f"{name}.openai").hf_hub_id for name in _OF_CLIP.values())


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Return a folder with `WEIGHTS` in two files, and their index."""
    names = sorted(WEIGHTS)
    files = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, own in files.items():
        save_file({name: WEIGHTS[name] + names.index(name) for name in own}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in files.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    return tmp_path


def test_weights_in_several_files_are_read_by_their_index(sharded: Path) -> None:
    for init in (str(sharded), f"local-dir:{sharded}", str(sharded / "model.safetensors.index.json")):
        found = read_weights(init).network.tensors
        assert sorted(found) == sorted(WEIGHTS)
        assert [int(found[name][0, 0]) for name in sorted(found)] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_missing_file_of_an_index_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"lacks 1 of the 2 files that model.safetensors.index.json names: 'model-00002-of"
    ):
        read_weights(str(sharded))


def test_a_file_of_another_version_and_a_damaged_one_are_named(sharded: Path) -> None:
    second = sharded / "model-00002-of-00002.safetensors"
    save_file({"other": torch.ones(1)}, second)
    with pytest.raises(UserError, match=r"model-00002-of-00002.safetensors lacks 5 of the tensors"):
        read_weights(str(sharded))
    second.write_bytes(second.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"model-00002-of-00002.safetensors is not a complete safetensors file"):
        read_weights(str(sharded))


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": "../w.safetensors"}}'])
def test_a_damaged_index_is_named(sharded: Path, content: str) -> None:
    (sharded / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match=r"init: .*model\.safetensors\.index\.json"):
        read_weights(str(sharded))


def test_identity_of_weights_in_several_files_is_that_of_all(sharded: Path) -> None:
    before = input_digests({"init": str(sharded)})
    assert input_digests({"init": str(sharded)}) == before
    save_file({name: torch.zeros(1) for name in WEIGHTS}, sharded / "model-00002-of-00002.safetensors")
    assert input_digests({"init": str(sharded)}) != before
