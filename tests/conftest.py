"""What tests of the stages share: tiny runs on the embedded digits, started as a user starts them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from safetensors.torch import load_file

from common.errors import UserError
from common.evaluation.__main__ import main as evaluation_main
from common.models.kernels.library import runs_kernels
from common.training.precision import check_compiler
from finetune.__main__ import main as finetune_main
from pretrain.__main__ import main as pretrain_main

Result = TypeVar("Result")

RECIPES = Path(__file__).resolve().parents[1] / "recipes"

TINY = {
    "pretrain": [
        "data.images_per_class=8", "data.workers=0", "train.epochs=2", "train.batch_size=20", "train.log_every=1",
        "optim.warmup_epochs=1", "dino.outputs=16", "dino.hidden_dim=16", "dino.bottleneck_dim=8", "views.local_count=1",
        "views.local_size=8", "views.local_scale=[0.4,0.8]", "model.drop_path=0.0", "knn.every_epochs=1",
    ],
    "finetune": [
        "data.images_per_class=8", "data.workers=0", "train.epochs=2", "train.batch_size=20", "train.log_every=1",
        "optim.warmup_epochs=1", "model.drop_path=0.0", "train.evaluate_every=1",
    ],
    "linear": [
        "init=none", "data.images_per_class=8", "data.workers=0", "train.epochs=2", "train.batch_size=20", "train.log_every=1",
        "train.evaluate_every=1",
    ],
    "knn": ["init=none", "data.images_per_class=8", "data.workers=0", "train.batch_size=64"],
    "tokens": ["init=none", "data.images_per_class=8", "data.workers=0", "train.batch_size=64", "images=200"],
}  # fmt: skip

COMMANDS = {name: (name,) for name in ("pretrain", "finetune")} | {
    name: ("common.evaluation", name) for name in ("linear", "knn", "tokens")
}
"""What follows `accelerate launch -m` for each stage, before the recipe."""


class Killed(BaseException):
    """Stands for a kill: nothing in the project catches it."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Keep the arithmetic of every test the same on any machine."""
    torch.set_num_threads(1)


@pytest.fixture
def kernels() -> None:
    """Leave the test out, with the reason, where our kernels cannot be built or cannot run."""
    if not can_use_kernels():
        pytest.skip("no C++ compiler, or no products of bf16 matrices, here")


def can_use_kernels() -> bool:
    """Return whether our kernels can be built and run here."""
    return has_compiler() and runs_kernels()


def has_compiler() -> bool:
    """Return whether there is a C++ compiler for a CPU's kernels."""
    try:
        check_compiler("train.kernels")
    except UserError:
        return False
    return True


def with_threads(count: int, compute: Callable[[], Result]) -> Result:
    """Return what `compute` returns when PyTorch's operators have that many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        return compute()
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def stage() -> Callable[..., int]:
    """Run a stage in this process on a few digits: stage("pretrain", out, "key=value", ...) -> exit code."""

    def run(name: str, out: Path, *overrides: str, recipe: Path | None = None) -> int:
        path = recipe or RECIPES / "digits" / f"{name}.yaml"
        module, *words = COMMANDS[name]
        main = {"pretrain": pretrain_main, "finetune": finetune_main, "common.evaluation": evaluation_main}[module]
        return main([*words, str(path), *TINY[name], f"out={out}", *overrides])

    return run


def read_result(out: Path) -> dict[str, Any]:
    """Return a run's result."""
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def read_losses(out: Path) -> list[float]:
    """Return the training losses of a run, step by step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a run's last checkpoint: weights, moments, teacher, centre."""
    return load_file(sorted((out / "checkpoints").glob("step-*"))[-1] / "state.safetensors")


def assert_same_run(one: Path, other: Path) -> None:
    """Hold what two runs leave that no clock is in against each other, byte by byte: last checkpoint, metrics, export."""
    mine, theirs = _files(one), _files(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []
    assert read_result(one)["metrics"] == read_result(other)["metrics"]
    assert not list((other / "checkpoints").glob(".*"))


def _files(out: Path) -> dict[str, bytes]:
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    paths = [newest / "state.safetensors", out / "metrics.jsonl", *sorted((out / "export").glob("*"))]
    return {path.name: path.read_bytes() for path in paths}
