"""Two CPU processes (gloo) compared with one at the same global batch size: the same losses up to float32 rounding.

Batch norm in a conv stem is synchronized over both processes; drop path, whose random draws differ by process, is disabled.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import RECIPES, TINY, read_losses, read_result
from forked_runs import fork_run, read_log

from common.command import USER_ERROR

pytestmark = pytest.mark.long

Stage = Callable[..., int]

ROOT = RECIPES.parent


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("pretrain", ("dino.centering=mean", "dino.freeze_last_layer_epochs=1", "optim.lr=2e-4")),
        ("pretrain", ("dino.centering=sinkhorn", "model.stem=conv", "optim.lr=2e-4")),
        ("finetune", ("model.stem=conv", "augment.mixup=0.8", "augment.cutmix=1.0", "augment.random_erasing_prob=0.5")),
        ("linear", ("model.stem=conv", "augment.mixup=0.8", "augment.random_erasing_prob=0.5")),
        ("finetune", ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv")),
    ],
)
def test_two_processes_match_the_losses_of_one(
    stage: Stage, tmp_path: Path, name: str, overrides: tuple[str, ...]
) -> None:
    assert stage(name, tmp_path / "one", *overrides) == 0
    assert fork_run(name, tmp_path / "two", *overrides, processes=2) == 0, read_log(tmp_path / "two")
    one, two = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    assert len(one) == 8 and two == pytest.approx(one, rel=2e-5, abs=5e-6)
    result = read_result(tmp_path / "two")
    assert result["num_processes"] == 2
    key = {"pretrain": "knn_top1", "finetune": "test_loss", "linear": "test_loss"}[name]
    assert result["metrics"][key] == pytest.approx(read_result(tmp_path / "one")["metrics"][key], rel=1e-3)


def test_launcher_starts_two_processes(tmp_path: Path) -> None:
    """By the command of docs/several_machines.md."""
    out, launcher = tmp_path / "run", ("torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = [sys.executable, "-m", *launcher, "-m", "finetune", str(RECIPES / "digits" / "finetune.yaml")]
    command += [*TINY["finetune"], f"out={out}", "train.epochs=1"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launched = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = launched.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(launched.pid, signal.SIGKILL)
        raise
    assert launched.returncode == 0, output.decode()[-3000:]
    result = read_result(out)
    assert result["status"] == "finished" and result["num_processes"] == 2


@pytest.mark.parametrize("name", ["knn", "probe"])
def test_two_processes_evaluate_the_images_of_one(stage: Stage, tmp_path: Path, name: str) -> None:
    """Covers tokens, too: k-NN and tokens evaluate images with the same function."""
    assert stage(name, tmp_path / "one") == 0
    assert fork_run(name, tmp_path / "two", processes=2) == 0, read_log(tmp_path / "two")
    one, two = read_result(tmp_path / "one"), read_result(tmp_path / "two")
    assert two["num_processes"] == 2 and two["images"] == one["images"]
    assert two["metrics"] == pytest.approx(one["metrics"], rel=1e-4, abs=1e-6)


def test_two_processes_agree_on_divergence(stage: Stage, tmp_path: Path) -> None:
    overrides = ("optim.name=sgd", "optim.lr=1e30", "optim.warmup_epochs=0", "train.epochs=1")
    assert stage("finetune", tmp_path / "one", *overrides) == 0
    assert fork_run("finetune", tmp_path / "two", *overrides, processes=2) == 0, read_log(tmp_path / "two")
    one, two = read_result(tmp_path / "one"), read_result(tmp_path / "two")
    assert one["status"] == two["status"] == "diverged"
    assert (one["kind"], one["step"]) == (two["kind"], two["step"])


def test_processes_without_a_process_group_are_refused(tmp_path: Path) -> None:
    """Without ACCELERATE_USE_CPU accelerate forms none on CPUs."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    environment = {"WORLD_SIZE": "4", "ACCELERATE_USE_CPU": "false", "CUDA_VISIBLE_DEVICES": "", **address}
    assert fork_run("pretrain", tmp_path / "run", environment=environment) == USER_ERROR
    assert "set ACCELERATE_USE_CPU=true" in read_log(tmp_path / "run")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"RANK": "1", "LOCAL_RANK": ""}, "RANK = '1'"),
        ({"WORLD_SIZE": "2"}, "without MASTER_ADDR, MASTER_PORT"),
        ({"ACCELERATE_USE_FSDP": "true"}, "ACCELERATE_USE_FSDP = 'true'"),
    ],
)
def test_half_a_launch_is_refused_before_anything_is_written(
    tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    assert fork_run("finetune", tmp_path / "run", environment=environment) == USER_ERROR
    assert words in read_log(tmp_path / "run") and "Traceback" not in read_log(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_leftover_of_one_process_and_gradient_accumulation_change_nothing(stage: Stage, tmp_path: Path) -> None:
    overrides = ("train.epochs=1", "optim.name=sgd", "optim.warmup_epochs=0")
    assert stage("finetune", tmp_path / "plain", *overrides) == 0
    environment = {"ACCELERATE_USE_CPU": "true", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "8", "LOCAL_RANK": "3"}
    assert fork_run("finetune", tmp_path / "run", *overrides, environment=environment) == 0, read_log(tmp_path / "run")
    assert read_losses(tmp_path / "run") == read_losses(tmp_path / "plain")
    assert "step" in read_log(tmp_path / "run")  # logged as by the main process
