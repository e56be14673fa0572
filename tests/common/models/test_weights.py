"""Weights are taken whole and exactly, from every kind of source, or refused with everything that is wrong named."""

import argparse
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import VisionTransformer
from torch import Tensor

from common.errors import UserError
from common.models.export import export_network
from common.models.networks import ModelConfig, build_network
from common.models.weights import load_init


def _build(num_classes: int = 3, image_size: int = 16, **config: Any) -> VisionTransformer:
    return build_network(
        ModelConfig(**{"name": "vit_mini", **config}), image_size=image_size, num_classes=num_classes
    ).eval()


def _weights(**options: Any) -> dict[str, Tensor]:
    return {
        name: torch.randn_like(tensor) if tensor.is_floating_point() else tensor + 7
        for name, tensor in _build(**options).state_dict().items()
    }


def _saved(path: Path, weights: dict[str, Tensor]) -> str:
    save_file(weights, path)
    return str(path)


def _assert_loaded(model: VisionTransformer, weights: dict[str, Tensor]) -> None:
    for name, tensor in weights.items():
        assert torch.equal(model.state_dict()[name], tensor), name


def test_a_safetensors_file_is_loaded_to_the_bit(tmp_path: Path) -> None:
    weights, model = _weights(stem="conv"), _build(stem="conv")
    report = load_init(model, _saved(tmp_path / "w.safetensors", weights), image_size=16)
    _assert_loaded(model, weights)
    assert (report.num_loaded, report.head, report.resized_from) == (len(weights), "loaded", None)


@pytest.mark.parametrize("form", ["{run}", "{run}/export", "local-dir:{run}/export", "{run}/export/model.safetensors"])
def test_a_run_is_found_by_its_folder_its_export_or_its_file(tmp_path: Path, form: str) -> None:
    source, model = _build(stem="conv"), _build(stem="conv")
    export_network(
        source,
        tmp_path / "run" / "export",
        model_name="vit_mini",
        class_names=[],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        image_size=16,
        metrics={},
    )
    report = load_init(model, form.format(run=tmp_path / "run"), image_size=16)
    _assert_loaded(model, source.state_dict())
    assert report.source.endswith("model.safetensors")


def _dino_checkpoint(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return what DINO's program saves: student and teacher with heads, and its command line."""
    head = {"head.mlp.0.weight": torch.zeros(2, 2), "head.last_layer.weight_g": torch.ones(4, 1)}
    return {
        "student": {f"module.backbone.{name}": torch.zeros_like(tensor) for name, tensor in weights.items()},
        "teacher": {f"backbone.{name}": tensor for name, tensor in weights.items()} | head,
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", lr=5e-4, out=["a"]),
    }


def test_dinos_full_checkpoint_gives_the_teachers_backbone(tmp_path: Path) -> None:
    weights, model = _weights(num_classes=0), _build(num_classes=0)
    torch.save(_dino_checkpoint(weights), tmp_path / "checkpoint.pth")
    report = load_init(model, str(tmp_path / "checkpoint.pth"), image_size=16)
    _assert_loaded(model, weights)
    assert report.head == "none"


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_dinos_plain_backbone_is_loaded_under_any_prefix(tmp_path: Path, prefix: str) -> None:
    weights, model = _weights(num_classes=0), _build()
    torch.save({f"{prefix}{name}": tensor for name, tensor in weights.items()}, tmp_path / "backbone.pth")
    head = model.head.weight.detach().clone()
    assert load_init(model, str(tmp_path / "backbone.pth"), image_size=16).head == "fresh"
    _assert_loaded(model, weights | {"head.weight": head})


@pytest.mark.parametrize("init", ["timm:vit_tiny_patch16_224", "vit_tiny_patch16_224", "hf-hub:someone/network"])
def test_published_weights_come_through_timm(monkeypatch: pytest.MonkeyPatch, init: str) -> None:
    published, asked = _build(num_classes=1000), []

    def create_model(name: str, pretrained: bool) -> VisionTransformer:
        asked.append((name, pretrained))
        return published

    model = _build()
    monkeypatch.setattr(timm, "create_model", create_model)
    assert load_init(model, init, image_size=16).head == "fresh"
    assert asked == [(init.removeprefix("timm:"), True)]
    _assert_loaded(model, {"cls_token": published.state_dict()["cls_token"]})


def test_a_name_without_published_weights_is_refused() -> None:
    with pytest.raises(UserError, match="init: 'vit_small' could not be fetched.*No pretrained weights exist"):
        load_init(_build(), "vit_small", image_size=16)


def test_another_class_count_leaves_the_classifier_fresh_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, model = _weights(num_classes=5), _build(num_classes=3)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("head.")}
    with caplog.at_level(logging.INFO):
        report = load_init(model, _saved(tmp_path / "w.safetensors", weights), image_size=16)
    assert report.head == "fresh" and "classifier keeps its fresh weights" in caplog.text
    _assert_loaded(model, {name: tensor for name, tensor in weights.items() if not name.startswith("head.")} | fresh)


def test_a_classifier_that_is_not_needed_is_left_out(tmp_path: Path) -> None:
    model = _build(num_classes=0)
    assert load_init(model, _saved(tmp_path / "w.safetensors", _weights()), image_size=16).head == "dropped"


def test_the_position_embedding_is_resized_to_the_grid_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, model = _weights(), _build(image_size=32)
    with caplog.at_level(logging.INFO):
        report = load_init(model, _saved(tmp_path / "w.safetensors", weights), image_size=32)
    expected = resample_abs_pos_embed(weights["pos_embed"], new_size=[8, 8], old_size=[4, 4])
    assert report.resized_from == (4, 4) and torch.equal(model.pos_embed, expected)
    assert torch.equal(model.pos_embed[:, 0], weights["pos_embed"][:, 0])
    assert "position embedding resized from 4x4 patches to 32 px images" in caplog.text


def test_everything_that_does_not_fit_is_named_at_once_and_nothing_is_loaded(tmp_path: Path) -> None:
    weights, model = _weights(stem="patchify"), _build(stem="conv")
    del weights["norm.weight"], weights["blocks.2.attn.qkv.bias"]
    weights |= {"dist_token": torch.zeros(1), "blocks.0.mlp.fc1.weight": torch.zeros(8, 64)}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_init(model, _saved(tmp_path / "w.safetensors", weights), image_size=16)
    message = str(caught.value)
    for words in ("init: the weights of", "set model.name, model.patch_size, model.stem", "1 unexpected: dist_token"):
        assert words in message
    assert "norm.weight" in message and "blocks.2.attn.qkv.bias" in message and "patch_embed.conv.0.weight" in message
    assert "blocks.0.mlp.fc1.weight (8, 64) for (256, 64)" in message
    assert "patch_embed.proj.weight (64, 3, 4, 4) for (64, 64, 2, 2)" in message
    _assert_loaded(model, before)


def test_weights_of_another_size_are_refused_with_the_network_they_are_of(tmp_path: Path) -> None:
    options = {"class_names": [], "mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": 16, "metrics": {}}
    export_network(_build(stem="conv"), tmp_path, model_name="vit_mini", **options)
    with pytest.raises(UserError, match=r"made with \(name=vit_mini, .*stem=3Conv\+3BN\+3ReLU\+1Proj"):
        load_init(_build(name="vit_micro", image_size=32), str(tmp_path), image_size=32)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    weights = _weights()
    weights["blocks.1.mlp.fc2.bias"][3] = value
    with pytest.raises(UserError, match=r"diverged(.|\n)*1 not finite: blocks\.1\.mlp\.fc2\.bias"):
        load_init(_build(), _saved(tmp_path / "w.safetensors", weights), image_size=16)


def test_a_truncated_safetensors_file_is_named(tmp_path: Path) -> None:
    path = Path(_saved(tmp_path / "w.safetensors", _weights()))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"w\.safetensors is not a whole safetensors file"):
        load_init(_build(), str(path), image_size=16)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"w\.safetensors is not a whole safetensors file"):
        load_init(_build(), str(path), image_size=16)


class _Trap:
    """Write a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_that_runs_code_is_not_opened(tmp_path: Path, save: Any) -> None:
    save({"teacher": _Trap(str(tmp_path / "sprung"))}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match=r"evil\.pth cannot be read as weights alone.*not opened"):
        load_init(_build(), str(tmp_path / "evil.pth"), image_size=16)
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_pickle_is_named(tmp_path: Path) -> None:
    torch.save(_weights(), tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cut\.pth cannot be read as weights alone: it is cut short"):
        load_init(_build(), str(tmp_path / "cut.pth"), image_size=16)


@pytest.mark.parametrize("init", ["runs/absent", "absent.safetensors", "vit_nothing", "local-dir:absent"])
def test_a_source_that_is_not_there_lists_the_choices(init: str) -> None:
    with pytest.raises(UserError, match=r"init: .*is no file.*run folder.*timm:<name>, hf-hub:<id>"):
        load_init(_build(), init, image_size=16)


def test_a_folder_without_weights_and_a_file_of_no_known_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds neither export/model\.safetensors nor model\.safetensors"):
        load_init(_build(), str(tmp_path), image_size=16)
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(UserError, match=r"notes\.txt is of no kind known here"):
        load_init(_build(), str(tmp_path / "notes.txt"), image_size=16)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match=r"list\.pth holds no tensors by name"):
        load_init(_build(), str(tmp_path / "list.pth"), image_size=16)


def test_volos_position_embedding_is_resized_on_its_grid(tmp_path: Path) -> None:
    weights = _weights(name="volo_mini", image_size=16)
    model = build_network(ModelConfig(name="volo_mini"), image_size=(24, 12), num_classes=3)
    given = weights["pos_embed"].clone()
    report = load_init(model, _saved(tmp_path / "w.safetensors", weights), image_size=(24, 12))
    expected = resample_abs_pos_embed(given.flatten(1, 2), new_size=[6, 3], old_size=[4, 4], num_prefix_tokens=0)
    torch.testing.assert_close(model.pos_embed.flatten(1, 2), expected)
    assert report.resized_from == (4, 4) and report.head == "loaded"


@pytest.mark.parametrize(("name", "heads"), [("volo_mini", ("head", "aux_head")), ("regnety_mini", ("head.fc",))])
def test_all_classifiers_of_another_class_count_stay_fresh(tmp_path: Path, name: str, heads: tuple[str, ...]) -> None:
    weights, model = _weights(name=name, num_classes=7), _build(name=name, num_classes=3)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    source = _saved(tmp_path / "w.safetensors", weights)
    report = load_init(model, source, image_size=16)
    fresh = {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    assert report.head == "fresh" and report.num_loaded == len(before) - len(fresh)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key] if key in fresh else weights[key]), key
    assert load_init(_build(name=name, num_classes=0), source, image_size=16).head == "dropped"
    assert load_init(_build(name=name, num_classes=7), source, image_size=16).head == "loaded"


def test_another_feed_forward_design_is_refused_by_name(tmp_path: Path) -> None:
    source = _saved(tmp_path / "w.safetensors", _weights(ffn="conv1d_bn"))
    with pytest.raises(UserError, match=r"model\.ffn(.|\n)*missing: .*blocks\.0\.mlp\.fc1\.weight"):
        load_init(_build(), source, image_size=16)
