"""Token labeling end to end: train a teacher, write its token labels, train a small VOLO on them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import RECIPES, TINY, read_losses, read_result

from common.evaluation.token_labels.command import main as make_labels
from finetune.__main__ import main as finetune

Stage = Callable[..., int]

VOLO = RECIPES / "digits" / "volo.yaml"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token labels of all training images from a teacher trained for a few steps; the runs below use a subset of them."""
    folder = tmp_path_factory.mktemp("labels")
    teacher, out = folder / "teacher", folder / "labels"
    assert finetune([str(RECIPES / "digits" / "finetune.yaml"), *TINY["finetune"], f"out={teacher}"]) == 0
    assert make_labels([str(RECIPES / "digits" / "token_labels.yaml"), f"init={teacher}", f"out={out}"]) == 0
    return out


def test_token_labels_of_all_images_work_for_a_subset_with_any_number_of_workers(
    stage: Stage, tmp_path: Path, labels: Path
) -> None:
    overrides = (f"token_labels.labels={labels}", "augment.crop_scale=[0.3,1.0]", "augment.hflip_prob=0.5")
    for workers in (0, 2):
        assert stage("finetune", tmp_path / str(workers), *overrides, f"data.workers={workers}", recipe=VOLO) == 0
    losses = read_losses(tmp_path / "0")
    assert len(losses) == 8 and losses == read_losses(tmp_path / "2")
    assert stage("finetune", tmp_path / "image_labels", *overrides[1:], recipe=VOLO) == 0
    assert losses[0] != read_losses(tmp_path / "image_labels")[0], "the token labels differ from the image labels"
    assert {"test_top1", "validation_top1"} <= read_result(tmp_path / "0")["metrics"].keys()


def test_token_labels_of_other_images_are_refused_before_training(
    stage: Stage, tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A hold-out with another seed puts images into the training split that have no token labels.
    overrides = (f"token_labels.labels={labels}", "data.split_seed=1", "data.images_per_class=40")
    assert stage("finetune", tmp_path / "run", *overrides, recipe=VOLO) == 2
    error = capsys.readouterr().err
    assert "token_labels.labels" in error and "have no token labels" in error and "Traceback" not in error


def test_volo_learns_with_token_labels(stage: Stage, tmp_path: Path) -> None:
    overrides = ("data.images_per_class=20", "train.epochs=6", "train.evaluate_every=6", "optim.lr=4e-3")
    assert stage("finetune", tmp_path / "run", *overrides, recipe=VOLO) == 0
    assert read_result(tmp_path / "run")["metrics"]["test_top1"] > 60
