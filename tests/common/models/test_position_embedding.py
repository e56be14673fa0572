"""The grid of a position embedding is read where it is known; a guess is warned of, a contradiction refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import VisionTransformer
from torch import Tensor

from common.errors import UserError
from common.models import weight_files
from common.models.export import export_network
from common.models.networks import ModelConfig, build_network
from common.models.weights import load_init

Size = tuple[int, int]


def _build(size: Size, **config: Any) -> VisionTransformer:
    torch.manual_seed(0)
    return build_network(ModelConfig(**{"name": "vit_mini", **config}), image_size=size, num_classes=3)


def _numbered(size: Size, **config: Any) -> VisionTransformer:
    """Return a network whose position embedding holds the column in its first channel and the row in its second."""
    model = _build(size, **config)
    rows, columns = model.patch_embed.grid_size
    with torch.no_grad():
        grid = model.pos_embed[0, 1:].view(rows, columns, -1)
        grid[..., 0] = torch.arange(columns).float()
        grid[..., 1] = torch.arange(rows).float()[:, None]
    return model


def _grid(model: VisionTransformer) -> Tensor:
    return model.pos_embed[0, 1:].detach().view(*model.patch_embed.grid_size, -1)


def _export(folder: Path, size: Size, **config: Any) -> str:
    export_network(
        _numbered(size, **config),
        folder,
        model_name="vit_mini",
        class_names=[],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        image_size=size,
        metrics={},
    )
    return str(folder)


def _file(folder: Path, size: Size, config: Any = None) -> str:
    """Write weights without a config, or with this one."""
    folder.mkdir(exist_ok=True)
    save_file(_numbered(size).state_dict(), folder / "model.safetensors")
    if config is not None:
        (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("stem", ["patchify", "conv"])
@pytest.mark.parametrize(
    ("old", "new"),
    [((8, 32), (16, 16)), ((8, 32), (32, 32)), ((16, 8), (24, 8)), ((16, 8), (8, 16))],
    ids=["as many patches", "2x8 to 8x8", "no square", "on its side"],
)
def test_the_grid_of_an_export_is_read_from_its_config(
    tmp_path: Path, caplog: Any, stem: str, old: Size, new: Size
) -> None:
    model = _build(new, stem=stem)
    with caplog.at_level(logging.INFO):
        report = load_init(model, _export(tmp_path, old, stem=stem))
    assert report.resized_from == (old[0] // 4, old[1] // 4)
    grid = _grid(model)
    torch.testing.assert_close(grid[..., 0], grid[:1, :, 0].expand(grid.shape[:2]))  # the same columns in every row
    torch.testing.assert_close(grid[..., 1], grid[:, :1, 1].expand(grid.shape[:2]))  # the same rows in every column
    assert f"from {old[0] // 4}x{old[1] // 4} to {new[0] // 4}x{new[1] // 4} patches" in caplog.text
    assert "warning" not in caplog.text


def test_the_same_grid_is_loaded_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = _build((8, 32))
    assert load_init(model, _export(tmp_path, (8, 32))).resized_from is None
    assert torch.equal(model.pos_embed, _numbered((8, 32)).pos_embed) and "warning" not in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        {"model_args": {"img_size": [8, 32], "patch_size": 4}, "pretrained_cfg": {"input_size": [3, 16, 16]}},
        {"pretrained_cfg": {"input_size": [3, 8, 32]}},
        {"input_size": [3, 8, 32]},
        {"image_size": [8, 32], "patch_size": 4},
        {"network": {"img_size": [8, 32], "stem_strides": [2, 1, 2]}},
    ],
    ids=["timm", "timm without arguments", "old timm", "transformers", "strides"],
)
def test_configs_of_other_programs_tell_the_grid(tmp_path: Path, config: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert load_init(_build((16, 16)), _file(tmp_path, (8, 32), config)).resized_from == (2, 8)
    assert "warning" not in caplog.text


def test_a_model_of_timm_tells_its_grid(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    published, model = _numbered((8, 32)), _build((16, 16))
    monkeypatch.setattr(weight_files, "timm_arguments", lambda *_: {})
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: published)
    assert load_init(model, "timm:some_network").resized_from == (2, 8) and "warning" not in caplog.text


@pytest.mark.parametrize(
    "config", [None, "{", {}, {"image_size": "big"}, {"network": None, "image_size": [8]}, "[" * 5000]
)
def test_a_square_is_assumed_with_a_warning_where_nothing_tells_the_grid(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, config: Any
) -> None:
    assert load_init(_build((16, 16)), _file(tmp_path, (8, 32), config)).resized_from is None
    assert "nothing states the grid" in caplog.text and "a square grid was assumed, 4x4" in caplog.text
    assert load_init(_build((8, 32)), _file(tmp_path, (8, 32), config)).resized_from == (4, 4)


def test_the_networks_own_grid_is_assumed_with_a_warning_for_as_many_patches(tmp_path: Path, caplog: Any) -> None:
    model = _build((8, 16))
    assert load_init(model, _file(tmp_path, (8, 16))).resized_from is None
    assert "the grid of this network was assumed, 2x4" in caplog.text
    assert torch.equal(model.pos_embed, _numbered((8, 16)).pos_embed)


def test_an_unknown_grid_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its 8 patches are no square.*put the config\.json of the export"):
        load_init(_build((24, 8)), _file(tmp_path, (8, 16)))


def test_an_edited_config_is_refused_by_name(tmp_path: Path) -> None:
    source = _export(tmp_path, (8, 32))
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["img_size"] = [8, 28]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        UserError, match=r"config\.json states images of 8x28 px in patches of 4x4 px, a grid of 2x7.* 16 patches"
    ):
        load_init(_build((16, 16)), source)


def test_a_grid_problem_is_listed_beside_other_problems(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"1 of another shape: (.|\n)*\n  position embedding: its 8 patches are no square"
    ) as error:
        load_init(_build((24, 8), patch_size=2), _file(tmp_path, (8, 16)))
    assert "pos_embed (" not in str(error.value)
