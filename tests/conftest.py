"""Shared fixtures: tiny runs of the stages on the bundled digits, started through their command lines."""

import json
import logging
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

# Before torch is imported: a thread of the backward pass takes the number of its own threads from here, and with two of them the
# processes of distributed runs spend half of their time spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from safetensors.torch import load_file

from common.config import Config, build
from common.cores import available_cores
from common.errors import UserError
from common.evaluation.__main__ import main as evaluation_main
from common.interruption import stop_signals
from common.models.kernels.library import kernels_available
from common.training.compilers import check_compiler
from finetune.__main__ import main as finetune_main
from pretrain.__main__ import main as pretrain_main

Result = TypeVar("Result")

# Ignored under nohup, and in the background of a script, and then by every process that the tests start.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HANDLERS = {number: signal.getsignal(number) for number in stop_signals()}
"""How this process reacted to signals before any test."""
RECIPES = Path(__file__).resolve().parents[1] / "recipes"

TINY = {
    "pretrain": [
        "data.images_per_class=8", "data.workers=0", "train.epochs=2", "train.batch_size=20", "train.log_every=1",
        "optim.warmup_epochs=1", "dino.out_dim=16", "dino.hidden_dim=16", "dino.bottleneck_dim=8", "crops.num_local=1",
        "crops.local_size=8", "crops.local_scale=[0.4,0.8]", "model.drop_path=0.0", "knn.every_epochs=1",
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
    "probe": ["init=none", "data.images_per_class=8", "data.workers=0", "train.batch_size=64", "l2=[0.1,1]"],
    "tokens": ["init=none", "data.images_per_class=8", "data.workers=0", "train.batch_size=64", "images=200"],
    "token_labels": ["data.fraction=0.2", "train.batch_size=32"],
}  # fmt: skip

COMMANDS = {name: (name,) for name in ("pretrain", "finetune")} | {
    name: ("common.evaluation", name) for name in ("linear", "knn", "probe", "tokens", "token_labels")
}
"""The words between `accelerate launch -m` and the recipe, by stage."""


class Killed(BaseException):
    """Simulates a kill; nothing in the project catches it."""


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of test processes: some more than cores, as tests wait for runs that they start, poll and kill."""
    cores = available_cores()
    return cores + min(2, cores // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a run, by the fixtures below or as processes of their own; put the long ones first."""
    starters, processes = {"stage", "fake_stage", "study_folder"}, {"subprocess", "multiprocessing", "fork_run"}
    for item in items:
        fixtures, names = set(getattr(item, "fixturenames", ())), vars(getattr(item, "module", object))
        if fixtures & starters or names.keys() & processes:
            item.add_marker(pytest.mark.run)
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def as_a_new_process() -> Iterator[None]:
    """Take back what a stage that ran in this process leaves: handlers of signals, and those of logs, whose stream is closed."""
    yield
    for number, handler in HANDLERS.items():
        signal.signal(number, handler)
    root = logging.getLogger()
    for each in [each for each in root.handlers if type(each) is logging.StreamHandler]:
        root.removeHandler(each)
    root.setLevel(logging.WARNING)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Use one thread, so that results are the same on every machine."""
    torch.set_num_threads(1)


@pytest.fixture
def kernels() -> None:
    """Skip the test where the C++ kernels cannot be built or run."""
    if not can_use_kernels():
        pytest.skip("requires a C++ compiler and a CPU with bf16 matrix products")


def can_use_kernels() -> bool:
    """Return whether the C++ kernels can be built and run on this machine."""
    return has_compiler() and kernels_available()


def has_compiler() -> bool:
    """Return whether there is a C++ compiler for the CPU kernels."""
    try:
        check_compiler("train.kernels")
    except UserError:
        return False
    return True


def with_threads(count: int, compute: Callable[[], Result]) -> Result:
    """Return the result of `compute` with `count` PyTorch threads."""
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


def problems_of(cls: type[Config], **values: Any) -> dict[str, str]:
    """Return the messages about the invalid values of a section, by key."""
    try:
        build(cls, values, source="a test")
    except UserError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        return {re.split(r"[: =\[]", line)[0]: line for line in lines}
    return {}


def read_result(out: Path) -> dict[str, Any]:
    """Return a run's result."""
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def read_losses(out: Path) -> list[float]:
    """Return the training losses of a run, one per logged step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def last_weights(out: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a run's last checkpoint: weights, optimizer moments, teacher, center."""
    return load_file(sorted((out / "checkpoints").glob("step-*"))[-1] / "state.safetensors")


def assert_same_run(expected: Path, actual: Path) -> None:
    """Compare the files of two runs that contain no times, byte by byte: last checkpoint, metrics, predictions, export."""
    expected_files, actual_files = _files(expected), _files(actual)
    assert expected_files.keys() == actual_files.keys()
    assert [name for name in expected_files if expected_files[name] != actual_files[name]] == []
    assert read_result(expected)["metrics"] == read_result(actual)["metrics"]
    assert not list((actual / "checkpoints").glob(".*"))


def _files(out: Path) -> dict[str, bytes]:
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    paths = [newest / "state.safetensors", out / "metrics.jsonl", *sorted((out / "export").glob("*"))]
    paths += out.glob("predictions.parquet")
    return {path.name: path.read_bytes() for path in paths}
