"""Normalization that comes with weights: from every file that may state it, from runs, and assumed for CLIP."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from common.models import hub
from common.models.init_normalization import normalization_of_init

OPTIONS = {"embed_dim": 64, "depth": 1, "num_heads": 1, "img_size": 32, "patch_size": 8, "num_classes": 0}
STATED = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
PROCESSOR = {f"image_{name}": value for name, value in STATED.items()}


def _weights(folder: Path, name: str = "vit_base_patch16_224") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(timm.create_model(name, **OPTIONS).state_dict(), folder / "model.safetensors")
    return folder


def test_processor_of_images_and_texts_states_the_normalization(tmp_path: Path) -> None:
    _weights(tmp_path)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": PROCESSOR}))
    assert normalization_of_init(str(tmp_path)) == STATED


@pytest.mark.parametrize("within", [False, True])
def test_processor_that_does_not_normalize_gives_0_and_1(within: bool, tmp_path: Path) -> None:
    _weights(tmp_path)
    processor = {**PROCESSOR, "do_normalize": False}
    name = "processor_config.json" if within else "preprocessor_config.json"
    (tmp_path / name).write_text(json.dumps({"image_processor": processor} if within else processor))
    assert normalization_of_init(str(tmp_path)) == {"mean": [0.0] * 3, "std": [1.0] * 3}


def test_normalization_of_clip_is_assumed_where_nothing_states_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = normalization_of_init(str(_weights(tmp_path / "clip", "vit_base_patch16_clip_224")))
    assert found is not None and found["mean"][0] == pytest.approx(0.4815, abs=1e-4)
    assert "that of OpenAI's CLIP is assumed" in caplog.text
    assert normalization_of_init(str(_weights(tmp_path / "vit"))) is None


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a repository that is in the cache with its weights alone, and let no request succeed."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    root = tmp_path / "cache" / "models--someone--network"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    hub._why_no_hub.cache_clear()
    return _weights(root / "snapshots" / ("0" * 40))


def _download_from(folder: Path, stated: dict[str, Any]) -> Any:
    """Return a stand-in for the download of a file, which a repository has if `stated` has it."""

    def download(_: str, file: str) -> Path | None:
        if file in stated:
            (folder / file).write_text(json.dumps(stated[file]))
        return None

    return download


def test_file_that_the_cache_lacks_is_fetched_for_the_normalization(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "why_unreachable", lambda _: None)
    monkeypatch.setattr(hub, "_download", _download_from(cached, {"preprocessor_config.json": PROCESSOR}))
    assert normalization_of_init("hf-hub:someone/network", fetch=False) is None
    assert normalization_of_init("hf-hub:someone/network") == STATED


@pytest.mark.parametrize("offline", [False, True])
def test_unknown_normalization_is_warned_of_without_a_connection(
    offline: bool, cached: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(hub, "why_unreachable", lambda url: asked.append(url) or ("no connection", None))
    for _ in range(2):
        assert normalization_of_init("hf-hub:someone/network") is None
    assert len(asked) == (0 if offline else 1)
    assert "nothing in the cache states the normalization of hf-hub:someone/network" in caplog.text


def test_absence_that_the_cache_records_is_not_asked_for_again(
    cached: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hub, "why_unreachable", lambda _: pytest.fail("a request"))
    absent = cached.parents[1] / ".no_exist" / cached.name
    absent.mkdir(parents=True)
    for file in hub._BESIDE:
        (absent / file).touch()
    assert normalization_of_init("hf-hub:someone/network") is None and "warning" not in caplog.text


@pytest.mark.parametrize("measured", [False, True])
def test_normalization_of_a_checkpoint_is_that_of_its_run(measured: bool, tmp_path: Path) -> None:
    step = tmp_path / "checkpoints" / "step-1"
    step.mkdir(parents=True)
    torch.save({}, step / "state.safetensors")
    data = {"channels": 2, "mean": "measured" if measured else 0.25, "std": "measured" if measured else [0.5, 0.5]}
    (tmp_path / "config.yaml").write_text("# stage: pretrain\n" + json.dumps({"data": data}))
    (tmp_path / "data.json").write_text(json.dumps({"normalization": {"mean": [0.25, 0.25], "std": [0.5, 0.5]}}))
    assert normalization_of_init(str(step)) == {"mean": [0.25, 0.25], "std": [0.5, 0.5]}
