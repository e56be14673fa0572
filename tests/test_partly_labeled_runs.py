"""Two-stage runs on partly labeled images: all of them train the first stage, the labeled ones the second."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import read_result
from PIL import Image

from common.command import USER_ERROR
from recipes.run.stale_images import stale_runs
from recipes.study.cost import RunCosts
from recipes.study.plan import PlannedRun

Stage = Callable[..., int]
PHOTOS = (
    "data.images_per_class=none",
    "train.batch_size=10",
    "train.epochs=1",
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write 20 images of each of two classes, and 30 without a label."""
    generator = np.random.default_rng(0)
    for name, count in (("cat", 20), ("dog", 20), ("unlabeled", 30)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:02d}.png")
    return tmp_path / "photos"


def planned(name: str, photos: Path, *overrides: str) -> PlannedRun:
    """Return the run of a stage as a study plans it."""
    words = (f"data.source={photos}", *PHOTOS, *overrides)
    return PlannedRun(f"{name}-00000000", name, name, f"recipes/digits/{name}.yaml", words, {}, None)


def test_unlabeled_images_train_the_first_stage_alone(stage: Stage, tmp_path: Path, photos: Path) -> None:
    words = (f"data.source={photos}", *PHOTOS)
    first, second = tmp_path / "pretrain-00000000", tmp_path / "finetune-00000000"
    assert stage("pretrain", first, *words) == 0
    result = read_result(first)
    assert result["train_images"] == 26 + 30 and result["splits"] == {"train": 56, "validation": 6, "test": 8}
    assert 0 <= result["metrics"]["knn_top1"] <= 100
    assert json.loads((first / "subset.json").read_text())["num_unlabeled"] == 30

    assert stage("finetune", second, *words, f"init={first}") == 0
    shutil.rmtree(photos / "unlabeled")
    assert stage("finetune", tmp_path / "alone", *words, f"init={first}") == 0
    alone = read_result(tmp_path / "alone")
    assert read_result(second)["metrics"] == alone["metrics"] and alone["train_images"] == 26
    assert (tmp_path / "alone" / "data.json").read_text() == (second / "data.json").read_text()

    # The fine-tuning is that of the labeled images, so it is still done; the pre-training is another.
    runs = [planned(name, photos) for name in ("pretrain", "finetune")]
    changed = stale_runs(runs, {run.id: tmp_path / run.id for run in runs})
    assert (
        list(changed) == ["pretrain-00000000"] and "number of training images: was 56, now 26" in changed[runs[0].id][0]
    )


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_ended_run_on_a_copy_is_confirmed(stage: Stage, tmp_path: Path, photos: Path, name: str) -> None:
    assert stage(name, tmp_path / "run", f"data.source={photos}", *PHOTOS) == 0
    copy = Path(shutil.copytree(photos, tmp_path / "copy"))
    assert stage(name, tmp_path / "run", f"data.source={copy}", *PHOTOS) == 0
    shutil.rmtree(copy / "unlabeled")
    code = stage(name, tmp_path / "run", f"data.source={copy}", *PHOTOS)
    assert code == (USER_ERROR if name == "pretrain" else 0)


def test_costs_count_the_images_of_each_stage(photos: Path) -> None:
    costs = RunCosts(None)
    assert [costs.size(planned(name, photos)).num_unlabeled for name in ("pretrain", "finetune")] == [30, 0]
    sizes = {
        (name, fraction): costs.of(planned(name, photos, f"data.fraction={fraction}")).images
        for name in ("pretrain", "finetune")
        for fraction in (1.0, 0.5)
    }
    batch = 10
    assert sizes["pretrain", 1.0] == 56 // batch * batch and sizes["pretrain", 0.5] == (13 + 30) // batch * batch
    assert sizes["finetune", 1.0] == 26 // batch * batch and sizes["finetune", 0.5] == 13 // batch * batch
