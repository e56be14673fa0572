"""init reads the checkpoints of runs: the network that the run exports, verified, or one message."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import read_result
from safetensors.torch import load_file
from timm.models import VisionTransformer
from torch import Tensor

from common.checkpoint_files import TENSORS, VALUES, Checkpoint, write_checkpoint
from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from common.models.weight_files import find_local_weights, read_weights
from common.models.weights import load_init

RECIPE = "# stage: {stage}\ninit: {init}\nmodel: {{name: vit_mini, patch_size: null}}\ndata: {{image_size: {size}}}\n"


def _network(value: float, size: Any = 16, num_classes: int = 0) -> VisionTransformer:
    network = build_network(ModelConfig(name="vit_mini"), image_size=size, num_classes=num_classes)
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, value)
    return network


def _prefixed(**networks: Any) -> dict[str, Tensor]:
    states = {name.replace("__", "."): network.state_dict() for name, network in networks.items()}
    tensors = {f"{prefix}.{name}": tensor for prefix, state in states.items() for name, tensor in state.items()}
    return tensors | {"optimizer.0.step": torch.ones(())}


DINO = {"dino.teacher_head.mlp.0.weight": torch.ones(2, 2), "dino.loss.center": torch.ones(2)}


def _checkpoint(run: Path, tensors: dict[str, Tensor], step: int = 17, **recipe: Any) -> Path:
    folder = run / "checkpoints" / f"step-{step:09d}"
    write_checkpoint(folder, Checkpoint(step, tensors, {}), milestone=False, replaces=False)
    (run / "config.yaml").write_text(RECIPE.format(**{"stage": "pretrain", "init": "null", "size": 16} | recipe))
    return folder


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/state.safetensors", "local-dir:{}"])
def test_the_teacher_of_a_pretraining_is_taken_and_logged(tmp_path: Path, form: str, caplog: Any) -> None:
    tensors = _prefixed(dino__student=_network(0.1), dino__teacher=_network(0.2)) | DINO
    folder, model = _checkpoint(tmp_path, tensors), _network(0.0)
    with caplog.at_level(logging.INFO):
        report = load_init(model, form.format(folder))
    assert report.network == "teacher" and model.cls_token.unique().item() == pytest.approx(0.2)
    assert "network: teacher; also in the file: student; not loaded: teacher_head (1 tensor)" in caplog.text
    assert "warning" not in caplog.text, "the recipe of the run tells the grid"
    assert find_local_weights(form.format(folder)) == folder / TENSORS


def test_the_average_of_a_finetuning_is_taken_before_its_network(tmp_path: Path) -> None:
    plain, average = _network(0.1, num_classes=3), _network(0.2, num_classes=3)
    weights = read_weights(str(_checkpoint(tmp_path / "averaged", _prefixed(network=plain, average=average)))).network
    assert (weights.name, weights.others) == ("average", ("network",)) and "head.weight" in weights.tensors
    weights = read_weights(str(_checkpoint(tmp_path / "plain", _prefixed(network=plain)))).network
    assert (weights.name, weights.others) == ("network", ()) and weights.tensors["head.bias"][0] == 0.1


def test_the_backbone_of_a_reidentification_is_taken(tmp_path: Path) -> None:
    tensors = _prefixed(network__backbone=_network(0.3)) | {"network.neck.weight": torch.ones(64)}
    weights = read_weights(str(_checkpoint(tmp_path, tensors))).network
    assert weights.tensors.keys() == _network(0).state_dict().keys() and weights.dropped == {"neck": 1}


def test_the_recipe_of_the_run_tells_the_grid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = _checkpoint(tmp_path / "run", _prefixed(network=_network(0.1, (8, 32))), size=[8, 32])
    assert load_init(_network(0.0), str(folder)).resized_from == (2, 8) and "warning" not in caplog.text
    link = tmp_path / "run" / "checkpoints" / "step-000000099"
    folder.rename(tmp_path / "moved")
    link.symlink_to(tmp_path / "moved")
    assert load_init(_network(0.0), str(link)).resized_from == (2, 8) and "warning" not in caplog.text
    (tmp_path / "run" / "config.yaml").write_text(RECIPE.format(stage="finetune", init="null", size=32))
    with pytest.raises(UserError, match=r"config\.yaml states images of 32x32 px .*8x8, but .* 16 patches"):
        load_init(_network(0.0), str(link))


def test_a_copied_checkpoint_is_read_under_any_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = _checkpoint(tmp_path / "run", _prefixed(network=_network(0.1)))
    shutil.copytree(folder, tmp_path / "best")
    assert load_init(_network(0.0), str(tmp_path / "best")).network == "network"
    assert "a square grid was assumed" in caplog.text
    shutil.copy(folder / TENSORS, tmp_path / "weights.safetensors")
    assert load_init(_network(0.0), str(tmp_path / "weights.safetensors")).network == "network"
    assert "weights.safetensors is a checkpoint without SHA256SUMS beside it" in caplog.text


def _flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / TENSORS).read_bytes())
    content[-5] ^= 1
    (folder / TENSORS).write_bytes(content)


def _of_a_later_version(folder: Path) -> None:
    (folder / VALUES).write_text(json.dumps({"format": 99, "step": 17, "values": {}}))
    _sum(folder)


def _sum(folder: Path) -> None:
    from common.checkpoint_files import SUMS, _sums

    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in _sums(folder).items()))


@pytest.mark.parametrize("form", ["{}", "{}/state.safetensors"])
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_flip_a_bit, r"step-000000017 is damaged \(the checksums do not match\).*\(step-000000034\)"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "damaged .SHA256SUMS is missing"),
        (lambda folder: (folder / VALUES).unlink(), r"damaged .state\.json is missing"),
        (lambda folder: (folder / TENSORS).write_bytes(b""), "the checksums do not match"),
        (_of_a_later_version, "written by a later version"),
    ],
    ids=["bit", "no sums", "no values", "empty", "later version"],
)
def test_a_damaged_checkpoint_is_one_message(
    tmp_path: Path, form: str, damage: Callable[[Path], Any], words: str
) -> None:
    tensors = _prefixed(network=_network(0.1))
    folder = _checkpoint(tmp_path, tensors)
    _checkpoint(tmp_path, tensors, step=34)
    damage(folder)
    with pytest.raises(UserError, match=words) as error:
        read_weights(form.format(folder))
    assert "\n" not in str(error.value)


def test_a_linear_evaluation_says_where_its_backbone_is(tmp_path: Path) -> None:
    folder = _checkpoint(tmp_path, {"classifier.weight": torch.ones(2, 2)}, stage="linear", init="runs/dino")
    with pytest.raises(UserError, match="holds no network, only classifier; .*the weights, runs/dino,"):
        read_weights(str(folder))
    with pytest.raises(UserError, match="is a run of the stage linear, which writes no network; .*runs/dino"):
        read_weights(str(tmp_path))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "let it finish, or use one of its checkpoints: .*/checkpoints/step-000000034"),
        ("checkpoints", "has several checkpoints; use one of them: step-000000017, step-000000034"),
        ("checkpoints/step-000000018", "is not a file.*; there are step-000000017, step-000000034"),
    ],
)
def test_the_checkpoints_there_are_are_named(tmp_path: Path, path: str, words: str) -> None:
    for step in (17, 34):
        _checkpoint(tmp_path, _prefixed(network=_network(0.1)), step=step)
    with pytest.raises(UserError, match=words):
        read_weights(str(tmp_path / path))


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        (
            {"student": 1, "teacher": 2, "optimizer": {"state": {}}, "epoch": 3},
            "network: teacher; also in the file: student",
        ),
        ({"state_dict": 2, "state_dict_ema": 1}, "network: state_dict; also in the file: state_dict_ema"),
        ({"model_ema": 1, "model": 2}, "network: model; also in the file: model_ema"),
        ({"model_ema": 2}, "network: model_ema"),
    ],
)
def test_other_programs_checkpoints_say_what_was_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: dict[str, Any], taken: str
) -> None:
    states = {key: _network(value).state_dict() if type(value) is int else value for key, value in content.items()}
    torch.save({**states, **({"epoch": 3} if "epoch" in content else {})}, tmp_path / "w.pth")
    model = _network(0.0)
    with caplog.at_level(logging.INFO):
        load_init(model, str(tmp_path / "w.pth"))
    assert f"init: {taken}\n" in caplog.text and model.cls_token.unique().item() == 2


def test_a_projection_head_that_is_left_out_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backbone = {f"module.backbone.{name}": tensor for name, tensor in _network(2.0).state_dict().items()}
    head = {"module.head.mlp.0.weight": torch.ones(2, 2), "module.head.last_layer.weight_g": torch.ones(2)}
    torch.save({"teacher": backbone | head}, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        load_init(_network(0.0), str(tmp_path / "w.pth"))
    assert "init: network: teacher; not loaded: head (2 tensors)" in caplog.text


def test_a_checkpoint_of_the_last_step_gives_the_export(
    stage: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Both stages, and an evaluation from the checkpoint as from the export."""
    assert stage("pretrain", tmp_path / "dino") == 0
    assert stage("finetune", tmp_path / "tuned", "ema_decay=0.5", "train.epochs=1", "optim.warmup_epochs=0") == 0
    for run in ("dino", "tuned"):
        folder = max((tmp_path / run / "checkpoints").glob("step-*"))
        weights, exported = read_weights(str(folder)), load_file(tmp_path / run / "export" / "model.safetensors")
        assert weights.network.tensors.keys() == exported.keys() and weights.geometry is not None
        assert all(torch.equal(weights.network.tensors[name], exported[name]) for name in exported)
    assert (
        stage("knn", tmp_path / "knn", f"init={folder}")
        == stage("knn", tmp_path / "same", f"init={tmp_path}/tuned")
        == 0
    )
    assert read_result(tmp_path / "knn")["metrics"] == read_result(tmp_path / "same")["metrics"]
