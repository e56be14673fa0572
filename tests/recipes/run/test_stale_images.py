"""Finished runs whose images or labels have changed since, and reports that would mix two data sets."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from common.data.open_splits import open_splits
from common.data.sources import table_files
from common.data.splits.fingerprint import DATA_FILE, describe_data
from common.errors import UserError
from recipes.run.stale_images import check_images, stale_runs
from recipes.stages import load_config
from recipes.study.plan import PlannedRun

RESULT = {
    "status": "finished", "reason": "", "step": 1, "metrics": {"test_top1": 50.0}, "seconds": 1.0, "images": 8,
    "images_per_second": 8.0, "parameters": 10, "train_images": 8, "num_processes": 1,
}  # fmt: skip


def fill(root: Path) -> Path:
    """Write two classes of ten images."""
    for kind in ("cat", "dog"):
        (root / kind).mkdir(parents=True)
        for number in range(10):
            pixels = np.full((4, 4, 3), 20 * number + (kind == "dog"), np.uint8)
            Image.fromarray(pixels).save(root / kind / f"{number}.png")
    return root


def finished(root: Path, folder: Path, *, module: str = "finetune", fraction: float = 1.0) -> PlannedRun:
    """Return a run that has ended, with the folder and the fingerprint of its data."""
    overrides = (f"data.source={root}", f"data.fraction={fraction}")
    run = PlannedRun(
        f"{module}-{fraction}-00000000", module, module, f"recipes/digits/{module}.yaml", overrides, {}, None
    )
    data = load_config(run.module, Path(run.recipe), run.overrides).data
    place = folder / "runs" / run.id
    place.mkdir(parents=True)
    splits = open_splits(data.model_copy(update={"workers": 0}), labeled=module == "finetune")
    (place / DATA_FILE).write_text(json.dumps(describe_data(splits)))
    (place / "result.json").write_text(json.dumps(RESULT))
    return run


def places(folder: Path, *runs: PlannedRun) -> dict[str, Path]:
    """Return the folder of each run."""
    return {run.id: folder / "runs" / run.id for run in runs}


def test_runs_on_unchanged_images_are_done(tmp_path: Path) -> None:
    root, folder = fill(tmp_path / "images"), tmp_path / "study"
    runs = [
        finished(root, folder),
        finished(root, folder, fraction=0.5),
        finished(root, folder, module="pretrain"),
    ]
    assert stale_runs(runs, places(folder, *runs)) == {}
    assert check_images(runs, places(folder, *runs), folder) == places(folder, *runs)


@pytest.mark.parametrize("change", ["labels", "added", "pixels"])
def test_changed_images_or_labels_are_refused_with_the_run(tmp_path: Path, change: str) -> None:
    root, folder = fill(tmp_path / "images"), tmp_path / "study"
    run = finished(root, folder)
    if change == "labels":
        (root / "cat").rename(root / "x")
        (root / "dog").rename(root / "cat")
        (root / "x").rename(root / "dog")
    elif change == "added":
        (root / "cat" / "new.png").write_bytes((root / "cat" / "0.png").read_bytes())
    else:
        Image.new("RGB", (4, 4), (255, 0, 0)).save(root / "cat" / "0.png")
    with pytest.raises(
        UserError, match=rf"1 finished runs .* such as {run.id}\. Restore them, choose another --out"
    ) as caught:
        check_images([run], places(folder, run), folder)
    assert "training images" in str(caught.value) and " was " in str(caught.value)


def test_runs_of_a_neighbor_on_other_images_are_not_shared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, neighbor, own = fill(tmp_path / "images"), tmp_path / "one", tmp_path / "two"
    run = finished(root, neighbor)
    Image.new("RGB", (4, 4), (255, 0, 0)).save(root / "cat" / "0.png")
    assert check_images([run], places(neighbor, run), own) == places(own, run)
    assert "is run again" in caplog.text


def test_images_that_are_gone_do_not_hide_a_finished_study(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, folder = fill(tmp_path / "images"), tmp_path / "study"
    run = finished(root, folder)
    root.rename(tmp_path / "elsewhere")
    assert check_images([run], places(folder, run), folder) == places(folder, run)
    assert "cannot be compared" in caplog.text


def test_a_table_is_not_unpacked_to_the_disk_to_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = fill(tmp_path / "images"), tmp_path / "study"
    paths = sorted(root.rglob("*.png"))
    table = {"image": [path.read_bytes() for path in paths], "label": [path.parent.name for path in paths]}
    pyarrow.parquet.write_table(pyarrow.table(table), tmp_path / "train.parquet")
    run = finished(tmp_path / "train.parquet", folder)
    unpacked: list[object] = []
    monkeypatch.setattr(table_files, "load_with_cache", lambda *args, **options: unpacked.append(args))
    assert stale_runs([run], places(folder, run)) == {} and not unpacked
