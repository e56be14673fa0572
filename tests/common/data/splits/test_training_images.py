"""The hashes of the training images in a run's folder, and how many images of a later run are among them."""

from pathlib import Path

import numpy as np
import pytest

from common.data.splits.training_images import (
    TRAINING_IMAGES_FILE,
    check_overlap,
    count_overlap,
    read_training_images,
    save_training_images,
)
from common.errors import UserError


def hashes(*values: int) -> np.ndarray:
    """Return hashes."""
    return np.array(values, np.uint64)


@pytest.mark.parametrize(
    "suffix", ["", "export", "export/model.safetensors", "checkpoints/step-000000001", "checkpoints/step-000000001/x"]
)
def test_overlap_with_the_run_that_wrote_the_weights(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.safetensors").touch()
    (tmp_path / "checkpoints" / "step-000000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000000001" / "x").touch()
    save_training_images(hashes(2**64 - 1, 3, 0, 3), None, tmp_path)
    parts = {"validation": hashes(4, 0), "test": hashes(3, 2**64 - 1, 3, 8)}
    assert count_overlap(str(tmp_path / suffix), parts) == {"validation": 0, "test": 3}


def test_links_to_weights_and_names_of_timm_lead_to_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`local-dir:` hid the run of the weights, so that a test on its training images was not refused."""
    (tmp_path / "run" / "export").mkdir(parents=True)
    (tmp_path / "run" / "export" / "model.safetensors").touch()
    save_training_images(hashes(3), None, tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run" / "export")
    (tmp_path / "weights.safetensors").symlink_to(tmp_path / "run" / "export" / "model.safetensors")
    for init in (f"local-dir:{tmp_path}/run/export", f"{tmp_path}/link", f"{tmp_path}/weights.safetensors"):
        assert count_overlap(init, {"test": hashes(3)}) == {"test": 1}
    monkeypatch.chdir(tmp_path / "run" / "export")
    for init in ("model.safetensors", "local-dir:."):
        assert count_overlap(init, {"test": hashes(3)}) == {"test": 1}
    monkeypatch.chdir(tmp_path / "run")
    assert count_overlap("vit_small_patch16_224", {"test": hashes(3)}) is None  # no path: not the run of this folder


def test_images_of_earlier_runs_are_passed_on(tmp_path: Path) -> None:
    for name, values, init in (("a", hashes(7, 2), None), ("b", hashes(5), "a"), ("c", hashes(9), "b")):
        (tmp_path / name).mkdir()
        save_training_images(values, init and str(tmp_path / init), tmp_path / name)
    found = read_training_images(str(tmp_path / "c"))
    assert found is not None and found.tolist() == [2, 5, 7, 9]


@pytest.mark.parametrize("init", ["timm:vit_small_patch16_224", "missing", "hf-hub:owner/name"])
def test_images_of_other_weights_are_not_known(init: str) -> None:
    assert count_overlap(init, {"test": hashes(1)}) is None


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / TRAINING_IMAGES_FILE).write_bytes(b"no array")
    with pytest.raises(UserError, match=rf"init: {TRAINING_IMAGES_FILE} of .* cannot be read"):
        read_training_images(str(tmp_path))


def test_test_images_that_the_weights_were_trained_on_are_refused(tmp_path: Path) -> None:
    save_training_images(hashes(*range(1, 50)), None, tmp_path)
    init, test = str(tmp_path), hashes(*range(40, 60))
    with pytest.raises(UserError, match=r"trained on 10 of the 20 test images .*data\.init_overlap=allow"):
        check_overlap(init, {"train": hashes(1, 2), "test": test}, refuses=True)
    assert check_overlap(init, {"train": hashes(1, 2), "test": test}) == {"test": 10}
    own = hashes(*range(1, 50))  # the data set itself has these images twice: the hold-outs are the same
    assert check_overlap(init, {"train": own, "test": test}, refuses=True) == {"test": 10}
    assert check_overlap(init, {"validation": test, "test": hashes(60, 61)}, refuses=True) == {
        "validation": 10,
        "test": 0,
    }
