"""Runs that start from weights trained on other classes: full, frozen, LoRA; resumed, on two processes, exported, fine-tuned."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import RECIPES, TINY, assert_same_run, last_weights, read_result
from forked_runs import fork_run
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from common.models.weight_files import read_weights
from common.models.weights import load_init
from pretrain.__main__ import main

Stage = Callable[..., int]

CONTINUED = {
    "full": ["optim.layer_decay=0.75"],
    "frozen": ["freeze={embeddings: true, blocks: 2}"],
    "norms": ["freeze.all_but_norms=true"],
    "lora": ["lora.rank=2", "freeze.blocks=1"],
}
"""Settings of a continued pre-training."""
DATA = ["data.test_split=none", "data.validation_fraction=0.2"]


def write_digits(folder: Path, classes: range) -> Path:
    """Write the images of some classes as a folder."""
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if label in classes and number < 600:
            path = folder / str(label) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255 / 16).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the images of two sets of classes and "public" weights trained on the first."""
    root = tmp_path_factory.mktemp("continued")
    write_digits(root / "own", range(5, 10))
    public = [
        "model.stem=conv",
        f"data.source={write_digits(root / 'other', range(5))}",
        *DATA,
        f"out={root / 'public'}",
    ]
    assert main([str(RECIPES / "digits" / "pretrain.yaml"), *TINY["pretrain"], *public]) == 0
    return root


def overrides(folders: Path, kind: str) -> list[str]:
    """Return the overrides of a run that starts from the public weights."""
    images, init = f"data.source={folders / 'own'}", f"init={folders / 'public'}"
    return [*DATA, images, init, "model.stem=conv", "train.checkpoint_steps=3", *CONTINUED[kind]]


def is_frozen(name: str, kind: str) -> bool:
    """Return whether a tensor of the network must stay as it was."""
    if kind == "lora":
        return True
    if kind == "norms":
        return "norm" not in name and not name.startswith(
            ("patch_embed.conv.1", "patch_embed.conv.4", "patch_embed.conv.7")
        )
    embeddings = ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1.")
    return kind == "frozen" and name.startswith(embeddings)


@pytest.mark.parametrize("kind", CONTINUED)
def test_frozen_parts_stay_and_the_rest_is_trained(stage: Stage, folders: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "run"
    assert stage("pretrain", out, *overrides(folders, kind)) == 0
    start, after = load_file(folders / "public" / "export" / "model.safetensors"), last_weights(out)
    for network in ("dino.student", "dino.teacher"):
        for name, tensor in start.items():
            assert torch.equal(after[f"{network}.{name}"], tensor) == is_frozen(name, kind), (network, name)
        updates = [tensor for name, tensor in after.items() if name.startswith(network) and name.endswith("lora_B")]
        assert len(updates) == (6 if kind == "lora" else 0) and all(tensor.any() for tensor in updates)
    moments = sum(name.endswith(".exp_avg") for name in after)
    trained = [name for name in start if not is_frozen(name, kind) and "running" not in name and "batches" not in name]
    assert moments == len(trained) + 2 * len(updates) + 7  # of the head: three layers with biases, the prototypes
    result = read_result(out)
    assert result["status"] != "diverged" and result["trained_parameters"] <= result["parameters"]
    assert (result["trained_parameters"] == result["parameters"]) == (kind == "full")


@pytest.mark.parametrize("kind", ["frozen", "lora"])
def test_resumed_run_is_the_same_bit_by_bit(stage: Stage, folders: Path, tmp_path: Path, kind: str) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert stage("pretrain", uninterrupted, *overrides(folders, kind)) == 0
    shutil.copytree(uninterrupted, resumed)
    (resumed / "result.json").unlink()
    shutil.rmtree(resumed / "export")
    shutil.rmtree(sorted((resumed / "checkpoints").glob("step-*"))[-1])
    assert stage("pretrain", resumed, *overrides(folders, kind)) == 0
    assert_same_run(uninterrupted, resumed)


def test_two_processes_train_the_updates_as_one_does(folders: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        assert fork_run("pretrain", tmp_path / f"{processes}", *overrides(folders, "lora"), processes=processes) == 0
    one, two = (last_weights(tmp_path / f"{processes}") for processes in (1, 2))
    for name, tensor in one.items():
        if name.startswith("dino."):
            torch.testing.assert_close(two[name], tensor, rtol=1e-3, atol=1e-3)


def test_export_and_checkpoint_hold_the_sum_of_weights_and_updates(stage: Stage, folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert stage("pretrain", out, *overrides(folders, "lora")) == 0
    images = torch.randn(2, 3, 12, 12)
    exported = timm.create_model(f"local-dir:{out / 'export'}", pretrained=True).eval()
    checkpoint = sorted((out / "checkpoints").glob("step-*"))[-1]
    weights = read_weights(str(checkpoint)).network.tensors
    assert weights.keys() == exported.state_dict().keys()
    public = timm.create_model(f"local-dir:{folders / 'public' / 'export'}", pretrained=True).eval()
    assert not torch.allclose(public(images), exported(images), atol=1e-3)
    load_init(public, str(checkpoint))
    torch.testing.assert_close(public(images), exported(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["frozen", "lora"])
@pytest.mark.parametrize("optimizer", ["optim.name=adamw", "optim.name=sam"])
def test_finetuning_of_a_part(stage: Stage, folders: Path, tmp_path: Path, kind: str, optimizer: str) -> None:
    out = tmp_path / "run"
    extra = [optimizer, "ema_decay=0.5", "train.grad_checkpointing=true"]
    assert stage("finetune", out, *overrides(folders, kind), *extra) == 0
    start, after = load_file(folders / "public" / "export" / "model.safetensors"), last_weights(out)
    for network in ("network", "average"):
        for name, tensor in start.items():
            assert torch.equal(after[f"{network}.{name}"], tensor) == is_frozen(name, kind), (network, name)
    exported = load_file(out / "export" / "model.safetensors")
    assert exported.keys() == start.keys() | {"head.weight", "head.bias"}
    assert not torch.equal(exported["blocks.3.attn.qkv.weight"], start["blocks.3.attn.qkv.weight"])


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_dry_run_refuses_weights_that_cannot_be_had(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert stage(name, tmp_path / "run", f"init={tmp_path / 'none.safetensors'}", "--dry-run") == 2
    assert "error: init" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
@pytest.mark.parametrize(
    ("override", "trained"), [("freeze.blocks=4", "0.00"), ("lora.rank=2", "0.00"), ("model.name=vit_mini", None)]
)
def test_dry_run_shows_what_is_trained_and_warns_of_frozen_random_weights(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, override: str, trained: str | None
) -> None:
    assert stage(name, tmp_path / "run", override, "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("trained ")] or [""]
    assert line.startswith(f"trained       {trained}") if trained else not line
    section = override.partition(".")[0]
    assert any(f"{section} without init: the frozen weights are random" in line for line in lines) == bool(trained)
