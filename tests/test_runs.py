"""Whole runs: what a run folder tells, resuming bit by bit, workers, the export, learning at all."""

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

Stage = Callable[..., int]


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_a_run_folder_tells_its_whole_story(stage: Stage, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    for file in ("config.yaml", "overrides.txt", "environment.json", "subset.json", "metrics.jsonl", "result.json"):
        assert (out / file).stat().st_size > 0, file
    result = read_result(out)
    assert result["verdict"] in ("finished", "collapsed_uniform", "collapsed_one_code") and result["step"] == 8
    assert result["images"] == 8 * 20 and result["train_images"] == 80 and result["seconds"] > 0
    assert len(read_losses(out)) == 8
    assert json.loads((out / "environment.json").read_text())["versions"]["torch"]
    wanted = {"pretrain": {"knn_top1", "knn_top1_untrained", "feature_rank", "teacher_entropy", "kl"},
              "finetune": {"test_top1", "test_top5", "test_ece", "validation_top1", "best_validation_epoch"}}  # fmt: skip
    assert wanted[name] <= result["metrics"].keys()


def test_a_damaged_checkpoint_is_passed_over(stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert stage("finetune", whole) == 0
    assert stage("finetune", parts, "train.checkpoint_minutes=1e-9") == 0
    (parts / "result.json").unlink()
    newest = sorted((parts / "checkpoints").glob("step-*"))[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-7] + b"garbage")
    assert stage("finetune", parts) == 0
    assert_same_run(whole, parts)


def files(out: Path) -> dict[str, tuple[bytes, int]]:
    """Return what lies in a folder, and when it was written."""
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["pretrain", "finetune", "linear", "knn"])
def test_a_folder_in_which_another_run_works_is_left_as_it_is(
    stage: Stage, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert stage(name, out, "train.batch_size=20") == 0
    (out / "result.json").unlink()
    before = files(out)
    with (out / "run.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stage(name, out, "train.batch_size=20") == 2
    assert f"out = {out}: another process works there" in capsys.readouterr().err and files(out) == before
    assert stage(name, out, "train.batch_size=20") == 0


def test_a_new_folder_is_locked_before_anything_is_written(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stage("finetune", tmp_path / "run") == 2
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.lock"]


@pytest.mark.parametrize("change", ["tensor", "monitor", "seconds", "rewinds"])
def test_a_whole_checkpoint_that_does_not_fit_changes_nothing(
    stage: Stage, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As another version, of this program or of a library, may have written it."""
    out = tmp_path / "run"
    assert stage("finetune", out) == 0
    (out / "result.json").unlink()
    (path,) = (out / "checkpoints").iterdir()
    tensors = load_file(path / "state.safetensors")
    described = json.loads((path / "state.json").read_text())
    if change == "tensor":
        tensors["network.other"] = tensors.pop("network.head.bias")
    else:
        described["values"][change] = None
    write_tensors(tensors, path / "state.safetensors")
    (path / "state.json").write_text(json.dumps(described))
    sums = [
        f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("state.safetensors", "state.json")
    ]
    (path / "SHA256SUMS").write_text("".join(sums))
    before = files(out)
    assert stage("finetune", out) == 2
    told = capsys.readouterr().err
    assert f"out = {out}: the checkpoint of step 8 is whole, but does not fit this run (" in told
    assert "Traceback" not in told and files(out) == before


def test_checkpoints_by_steps_and_milestones_by_epochs(stage: Stage, tmp_path: Path) -> None:
    overrides = ("train.checkpoint_steps=3", "train.milestone_epochs=1", "train.keep_checkpoints=1", "train.epochs=3")
    assert stage("finetune", tmp_path / "run", *overrides) == 0
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-000000004", "step-000000008", "step-000000009", "step-000000012"]


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_the_number_of_workers_changes_nothing(stage: Stage, tmp_path: Path, name: str) -> None:
    overrides = ("augment.auto_augment=rand-m9-mstd0.5-inc1", "augment.erasing=0.5") if name == "finetune" else ()
    for workers in (0, 1, 2):
        assert stage(name, tmp_path / str(workers), f"data.workers={workers}", "train.epochs=1", *overrides) == 0
    assert read_losses(tmp_path / "0") == read_losses(tmp_path / "1") == read_losses(tmp_path / "2")


def test_two_runs_of_one_seed_are_the_same_and_another_seed_differs(stage: Stage, tmp_path: Path) -> None:
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert stage("finetune", tmp_path / out, f"train.seed={seed}", "train.epochs=1") == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert read_losses(tmp_path / "a") != read_losses(tmp_path / "c")


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_a_diverging_run_is_a_crash_with_its_kind_and_step(stage: Stage, tmp_path: Path, name: str) -> None:
    assert stage(name, tmp_path / "run", "optim.name=sgd", "optim.lr=1e30", "optim.warmup_epochs=0") == 0
    result = read_result(tmp_path / "run")
    assert result["verdict"] == "crash" and result["kind"] in ("non_finite_loss", "non_finite_gradient")
    assert f"at step {result['step']}" in result["reason"] and 1 < result["step"] < 8
    assert not (tmp_path / "run" / "export").exists()


STUCK = (
    "optim.lr=1e-12", "optim.min_lr=1e-12", "optim.warmup_epochs=0", "head_init_scale=0", "verdict.chance_until=1",
    "verdict.chance_epochs=1", "verdict.chance_steps=1",
)  # fmt: skip


def test_a_run_stuck_at_chance_stops_and_without_stop_is_tested(stage: Stage, tmp_path: Path) -> None:
    assert (
        stage("finetune", tmp_path / "stops", *STUCK)
        == stage("finetune", tmp_path / "on", *STUCK, "verdict.stop=false")
        == 0
    )
    stops, on = read_result(tmp_path / "stops"), read_result(tmp_path / "on")
    assert (stops["verdict"], stops["kind"], stops["step"]) == (on["verdict"], on["kind"], on["step"])
    assert (stops["kind"], stops["step"]) == ("chance_level", 4)
    assert stops["images"] == 80 and "test_top1" not in stops["metrics"]
    assert on["images"] == 160 and "test_top1" in on["metrics"]


def test_two_stages_start_from_the_pretrained_teacher(stage: Stage, tmp_path: Path) -> None:
    assert stage("pretrain", tmp_path / "dino") == 0
    teacher = load_file(tmp_path / "dino" / "export" / "model.safetensors")
    assert stage("finetune", tmp_path / "tst", f"init={tmp_path / 'dino'}", "optim.lr=1e-12", "train.epochs=1") == 0
    tuned = load_file(tmp_path / "tst" / "export" / "model.safetensors")
    name = "blocks.0.attn.qkv.weight"
    assert torch.allclose(teacher[name], tuned[name], atol=1e-5)


def test_the_export_of_a_run_is_what_was_tested(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "run") == 0
    model = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True).eval()
    kept = {
        n.removeprefix("network."): t for n, t in last_weights(tmp_path / "run").items() if n.startswith("network.")
    }
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


def test_fine_tuning_learns_the_digits(stage: Stage, tmp_path: Path) -> None:
    overrides = ("data.images_per_class=40", "train.epochs=12", "train.batch_size=32", "optim.lr=2e-3")
    assert stage("finetune", tmp_path / "run", *overrides, "model.stem=conv") == 0
    assert read_result(tmp_path / "run")["metrics"]["test_top1"] > 60


def test_dino_learns_the_digits(stage: Stage, tmp_path: Path) -> None:
    """A quarter of the recipe's length lifts k-NN well above the untrained network, with all codes in use."""
    overrides = (
        "data.images_per_class=none", "train.epochs=8", "train.batch_size=64", "dino.outputs=512", "dino.hidden_dim=256",
        "dino.bottleneck_dim=64", "views.local_count=0", "knn.every_epochs=8", "model.stem=conv",
    )  # fmt: skip
    assert stage("pretrain", tmp_path / "run", *overrides) == 0
    result = read_result(tmp_path / "run")
    assert result["verdict"] == "finished"
    assert result["metrics"]["knn_top1"] > result["metrics"]["knn_top1_untrained"] + 6
    assert result["metrics"]["kl"] > 0.1 and result["metrics"]["code_entropy"] > 0.5 * 6.24  # of ln 512


def test_a_key_that_a_run_was_begun_without_had_its_default(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert stage("finetune", out) == 0
    held = out / "config.yaml"
    lines = held.read_text().splitlines(keepends=True)
    kept = [line for line in lines if "max_rewinds" not in line]
    assert len(kept) == len(lines) - 1
    held.write_text("".join(kept))
    assert stage("finetune", out) == 0
    held.write_text("".join(kept))
    assert stage("finetune", out, "train.max_rewinds=7") == 2
    assert "train.max_rewinds: 3 there, 7 now" in capsys.readouterr().err
