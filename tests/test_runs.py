"""Complete runs: run folder, bit-exact resume, workers, export, learning."""

import fcntl
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from conftest import assert_same_run, last_weights, read_losses, read_result
from safetensors.torch import load_file

from common.tensor_files import write_tensors

pytestmark = pytest.mark.long

Stage = Callable[..., int]


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_run_folder_is_complete(stage: Stage, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    for file in ("config.yaml", "overrides.txt", "environment.json", "subset.json", "metrics.jsonl", "result.json"):
        assert (out / file).stat().st_size > 0, file
    result = read_result(out)
    assert result["status"] in ("finished", "collapsed_uniform", "collapsed_one_prototype") and result["step"] == 8
    assert result["images"] == 8 * 20 and result["train_images"] == 80 and result["seconds"] > 0
    assert len(read_losses(out)) == 8
    assert json.loads((out / "environment.json").read_text())["versions"]["torch"]
    expected = {"pretrain": {"knn_top1", "knn_top1_untrained", "feature_rank", "teacher_entropy", "kl"},
              "finetune": {"test_top1", "test_top5", "test_ece", "validation_top1", "best_validation_epoch"}}  # fmt: skip
    assert expected[name] <= result["metrics"].keys()


def test_damaged_checkpoint_is_skipped(stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert stage("finetune", uninterrupted) == 0
    assert stage("finetune", resumed, "train.checkpoint_minutes=1e-9") == 0
    (resumed / "result.json").unlink()
    newest = sorted((resumed / "checkpoints").glob("step-*"))[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7] + b"garbage")
    assert stage("finetune", resumed) == 0
    assert_same_run(uninterrupted, resumed)


def files(out: Path) -> dict[str, tuple[bytes, int]]:
    """Return the content and modification time of every file of a folder."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["pretrain", "finetune", "linear", "knn", "probe"])
def test_folder_in_use_by_another_run_is_unchanged(
    stage: Stage, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert stage(name, out, "train.batch_size=20") == 0
    (out / "result.json").unlink()
    before = files(out)
    with (out / "run.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stage(name, out, "train.batch_size=20") == 2
    assert f"out = {out}: in use by another process" in capsys.readouterr().err and files(out) == before
    assert stage(name, out, "train.batch_size=20") == 0


def test_new_folder_is_locked_before_anything_is_written(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stage("finetune", tmp_path / "run") == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.lock"]


@pytest.mark.parametrize("change", ["tensor", "monitor", "seconds", "rewinds"])
def test_valid_checkpoint_of_another_run_is_refused_and_changes_nothing(
    stage: Stage, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """For example written by another version of this project or of a library."""
    out = tmp_path / "run"
    assert stage("finetune", out) == 0
    (out / "result.json").unlink()
    (path,) = (out / "checkpoints").iterdir()
    tensors = load_file(path / "state.safetensors")
    description = json.loads((path / "state.json").read_text())
    if change == "tensor":
        tensors["network.other"] = tensors.pop("network.head.bias")
    else:
        description["values"][change] = None
    write_tensors(tensors, path / "state.safetensors")
    (path / "state.json").write_text(json.dumps(description))
    sums = [
        f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("state.safetensors", "state.json")
    ]
    (path / "SHA256SUMS").write_text("".join(sums))
    before = files(out)
    assert stage("finetune", out) == 2
    error = capsys.readouterr().err
    assert f"out = {out}: the checkpoint of step 8 is intact, but does not fit this run (" in error
    assert "Traceback" not in error and files(out) == before


def test_checkpoint_steps_and_keep_every_epochs(stage: Stage, tmp_path: Path) -> None:
    overrides = ("train.checkpoint_steps=3", "train.keep_every_epochs=1", "train.keep_checkpoints=1", "train.epochs=3")
    assert stage("finetune", tmp_path / "run", *overrides) == 0
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-000000004", "step-000000008", "step-000000009", "step-000000012"]


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_number_of_workers_does_not_change_the_losses(stage: Stage, tmp_path: Path, name: str) -> None:
    overrides = (
        ("augment.auto_augment=rand-m9-mstd0.5-inc1", "augment.random_erasing_prob=0.5") if name == "finetune" else ()
    )
    for workers in (0, 1, 2):
        assert stage(name, tmp_path / str(workers), f"data.workers={workers}", "train.epochs=1", *overrides) == 0
    assert read_losses(tmp_path / "0") == read_losses(tmp_path / "1") == read_losses(tmp_path / "2")


def test_same_seed_is_reproducible_and_another_seed_differs(stage: Stage, tmp_path: Path) -> None:
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert stage("finetune", tmp_path / out, f"train.seed={seed}", "train.epochs=1") == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert read_losses(tmp_path / "a") != read_losses(tmp_path / "c")


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_diverging_run_reports_status_kind_and_step(stage: Stage, tmp_path: Path, name: str) -> None:
    assert stage(name, tmp_path / "run", "optim.name=sgd", "optim.lr=1e30", "optim.warmup_epochs=0") == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "diverged" and result["kind"] in ("non_finite_loss", "non_finite_gradient")
    assert f"at step {result['step']}" in result["reason"] and 1 < result["step"] < 8
    assert not (tmp_path / "run" / "export").exists()


STUCK = (
    "optim.lr=1e-12", "optim.min_lr=1e-12", "optim.warmup_epochs=0", "head_init_scale=0", "status.chance_until=1",
    "status.chance_epochs=1", "status.chance_steps=1",
)  # fmt: skip


def test_run_stuck_at_chance_stops_and_without_stop_is_tested(stage: Stage, tmp_path: Path) -> None:
    assert (
        stage("finetune", tmp_path / "stops", *STUCK)
        == stage("finetune", tmp_path / "on", *STUCK, "status.stop=false")
        == 0
    )
    stops, on = read_result(tmp_path / "stops"), read_result(tmp_path / "on")
    assert (stops["status"], stops["kind"], stops["step"]) == (on["status"], on["kind"], on["step"])
    assert (stops["kind"], stops["step"]) == ("chance_level", 4)
    assert stops["images"] == 80 and "test_top1" not in stops["metrics"]
    assert on["images"] == 160 and "test_top1" in on["metrics"]


def test_finetuning_starts_from_the_pretrained_teacher(stage: Stage, tmp_path: Path) -> None:
    assert stage("pretrain", tmp_path / "dino") == 0
    teacher = load_file(tmp_path / "dino" / "export" / "model.safetensors")
    assert stage("finetune", tmp_path / "tst", f"init={tmp_path / 'dino'}", "optim.lr=1e-12", "train.epochs=1") == 0
    tuned = load_file(tmp_path / "tst" / "export" / "model.safetensors")
    name = "blocks.0.attn.qkv.weight"
    assert torch.allclose(teacher[name], tuned[name], atol=1e-5)


def test_export_of_a_run_is_the_tested_network(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "run") == 0
    model = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True).eval()
    weights = {
        n.removeprefix("network."): t for n, t in last_weights(tmp_path / "run").items() if n.startswith("network.")
    }
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_fine_tuning_learns_the_digits(stage: Stage, tmp_path: Path) -> None:
    overrides = ("data.images_per_class=40", "train.epochs=6", "train.batch_size=32", "optim.lr=2e-3")
    assert stage("finetune", tmp_path / "run", *overrides, "model.stem=conv", "train.evaluate_every=6") == 0
    assert read_result(tmp_path / "run")["metrics"]["test_top1"] > 80


def test_dino_learns_the_digits(stage: Stage, tmp_path: Path) -> None:
    """A fifth of the recipe's length raises k-NN well above the untrained network, with all prototypes in use."""
    overrides = (
        "data.images_per_class=none", "train.epochs=5", "train.batch_size=64", "dino.out_dim=512", "dino.hidden_dim=256",
        "dino.bottleneck_dim=64", "crops.num_local=0", "knn.every_epochs=5", "model.stem=conv",
    )  # fmt: skip
    assert stage("pretrain", tmp_path / "run", *overrides) == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "finished"
    assert result["metrics"]["knn_top1"] > result["metrics"]["knn_top1_untrained"] + 6
    assert result["metrics"]["kl"] > 0.1 and result["metrics"]["prototype_entropy"] > 0.5 * 6.24  # of ln 512


def test_key_missing_from_an_older_run_counts_as_its_default(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert stage("finetune", out) == 0
    config_file = out / "config.yaml"
    lines = config_file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if "max_rewinds" not in line]
    assert len(kept) == len(lines) - 1
    config_file.write_text("".join(kept))
    assert stage("finetune", out) == 0
    config_file.write_text("".join(kept))
    assert stage("finetune", out, "train.max_rewinds=7") == 2
    assert "train.max_rewinds: 3 there, 7 now" in capsys.readouterr().err
