"""Initial weights and token labels of a run: compared by content, wherever they are."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from common.errors import UserError
from common.training import inputs
from common.training.inputs import INPUTS_FILE, check_inputs, describe_inputs, hash_tensors, save_inputs
from finetune.config import FinetuneConfig

WEIGHTS = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor(3)}


def describe(init: Path | str) -> Any:
    return describe_inputs(FinetuneConfig(out="run", init=str(init)), stage="finetune")


def files(folder: Path, *moved: tuple[str, str]) -> Any:
    return SimpleNamespace(path=folder, moved=dict.fromkeys(["init"], *moved) if moved else {})


def write(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_weights_are_hashed_by_name_shape_type_and_value() -> None:
    expected = hash_tensors(WEIGHTS)
    assert hash_tensors(dict(reversed(WEIGHTS.items()))) == expected
    layout, values = "names, types and shapes", "values"
    for changed in ({"c": WEIGHTS["a"]}, {"a": WEIGHTS["a"].view(3, 2)}, {"a": WEIGHTS["a"].view(torch.int32)}):
        found = hash_tensors(WEIGHTS | changed)
        assert found[layout] != expected[layout]
    found = hash_tensors(WEIGHTS | {"a": WEIGHTS["a"] + 1})
    assert found[layout] == expected[layout] and found[values] != expected[values]


def test_weights_that_were_moved_or_converted_are_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = tmp_path / "run"
    run.mkdir()
    save_inputs(describe(write(tmp_path / "before", WEIGHTS)), run)
    torch.save(WEIGHTS, tmp_path / "now.pth")
    now = tmp_path / "now.pth"
    check_inputs(describe(now), files(run, (str(tmp_path / "before"), str(now))), resumes=True)
    assert f"init was {tmp_path}/before, now {now}, with the same content" in caplog.text


def test_other_weights_are_refused_with_both_paths(tmp_path: Path) -> None:
    before, now = write(tmp_path / "before", WEIGHTS), write(tmp_path / "now", {**WEIGHTS, "b": torch.tensor(4)})
    save_inputs(describe(before), tmp_path)
    with pytest.raises(UserError, match=rf"init = {now}: .* began with others, of {before}: their values differ"):
        check_inputs(describe(now), files(tmp_path, (str(before), str(now))), resumes=False)


def test_weights_that_changed_at_their_path_are_refused_when_the_run_resumes(tmp_path: Path) -> None:
    init = write(tmp_path / "init", WEIGHTS)
    save_inputs(describe(init), tmp_path)
    save_file({"a": WEIGHTS["a"]}, init / "model.safetensors")
    with pytest.raises(UserError, match="their names, types and shapes and values differ"):
        check_inputs(describe(init), files(tmp_path), resumes=True)
    check_inputs(describe(init), files(tmp_path), resumes=False)


def test_run_of_an_earlier_version_compares_paths(tmp_path: Path) -> None:
    init = write(tmp_path / "init", WEIGHTS)
    check_inputs(describe(init), files(tmp_path), resumes=True)
    with pytest.raises(UserError, match=rf"another recipe.*\n  init: there there, {init} now"):
        check_inputs(describe(init), files(tmp_path, ("there", str(init))), resumes=True)


def test_names_of_the_hub_are_compared_by_name(tmp_path: Path) -> None:
    assert describe("timm:vit_tiny_patch16_224") == {}
    save_inputs({}, tmp_path)
    assert not (tmp_path / INPUTS_FILE).exists()


def test_token_labels_with_a_moved_teacher_are_the_same() -> None:
    one, other, different = (
        inputs._hash_description(json.dumps({"teacher": teacher, "teacher_hash": value}).encode())
        for teacher, value in (("here", "1"), ("there", "1"), ("here", "2"))
    )
    assert one == other != different


@pytest.mark.parametrize("text", ["torn", "[]", '{"init": 3}'])
def test_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / INPUTS_FILE).write_text(text)
    with pytest.raises(UserError, match=f"{INPUTS_FILE}: not the inputs of a run"):
        check_inputs({}, files(tmp_path), resumes=True)
