"""Weights from every kind of source are loaded completely and exactly, or rejected with all problems in one error."""

import argparse
import logging
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
from common.models import weight_files
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


def test_safetensors_file_is_loaded_exactly(tmp_path: Path) -> None:
    weights, model = _weights(stem="conv"), _build(stem="conv")
    report = load_init(model, _saved(tmp_path / "w.safetensors", weights))
    _assert_loaded(model, weights)
    assert (report.num_loaded, report.head, report.resized_from) == (len(weights), "loaded", None)


@pytest.mark.parametrize("form", ["{run}", "{run}/export", "local-dir:{run}/export", "{run}/export/model.safetensors"])
def test_run_is_found_by_its_folder_its_export_or_its_file(tmp_path: Path, form: str) -> None:
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
    report = load_init(model, form.format(run=tmp_path / "run"))
    _assert_loaded(model, source.state_dict())
    assert report.source.endswith("model.safetensors")


def _dino_checkpoint(weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return a checkpoint as saved by DINO's code: student and teacher with heads, and the command line."""
    head = {"head.mlp.0.weight": torch.zeros(2, 2), "head.last_layer.weight_g": torch.ones(4, 1)}
    return {
        "student": {f"module.backbone.{name}": torch.zeros_like(tensor) for name, tensor in weights.items()},
        "teacher": {f"backbone.{name}": tensor for name, tensor in weights.items()} | head,
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", lr=5e-4, out=["a"]),
    }


def test_dinos_full_checkpoint_yields_the_teachers_backbone(tmp_path: Path) -> None:
    weights, model = _weights(num_classes=0), _build(num_classes=0)
    torch.save(_dino_checkpoint(weights), tmp_path / "checkpoint.pth")
    report = load_init(model, str(tmp_path / "checkpoint.pth"))
    _assert_loaded(model, weights)
    assert report.head == "none"


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "module.backbone."])
def test_dinos_backbone_is_loaded_with_any_prefix(tmp_path: Path, prefix: str) -> None:
    weights, model = _weights(num_classes=0), _build()
    torch.save({f"{prefix}{name}": tensor for name, tensor in weights.items()}, tmp_path / "backbone.pth")
    head = model.head.weight.detach().clone()
    assert load_init(model, str(tmp_path / "backbone.pth")).head == "fresh"
    _assert_loaded(model, weights | {"head.weight": head})


@pytest.mark.parametrize("init", ["timm:vit_tiny_patch16_224", "vit_tiny_patch16_224"])
def test_published_weights_are_loaded_through_timm(monkeypatch: pytest.MonkeyPatch, init: str) -> None:
    published, requested = _build(num_classes=1000), []

    def create_model(name: str, pretrained: bool) -> VisionTransformer:
        requested.append((name, pretrained))
        return published

    model = _build()
    monkeypatch.setattr(timm, "create_model", create_model)
    monkeypatch.setattr(weight_files, "timm_arguments", lambda *_: {})
    assert load_init(model, init).head == "fresh"
    assert requested == [(init.removeprefix("timm:"), True)]
    _assert_loaded(model, {"cls_token": published.state_dict()["cls_token"]})


def test_classifier_with_another_number_of_classes_is_not_loaded_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights, model = _weights(num_classes=5), _build(num_classes=3)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("head.")}
    with caplog.at_level(logging.INFO):
        report = load_init(model, _saved(tmp_path / "w.safetensors", weights))
    assert report.head == "fresh" and "classifier keeps its random initialization" in caplog.text
    _assert_loaded(model, {name: tensor for name, tensor in weights.items() if not name.startswith("head.")} | fresh)


def test_a_classifier_of_other_classes_is_not_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its classes were taken for ours where there were as many."""
    options = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": 16, "metrics": {}}
    source = _build(num_classes=3)
    export_network(source, tmp_path, model_name="vit_mini", class_names=["cat", "dog", "cow"], **options)
    for names, head in ((("cat", "dog", "cow"), "loaded"), (("cat", "cow", "dog"), "fresh"), (None, "loaded")):
        caplog.clear()
        model = _build(num_classes=3)
        before = model.head.weight.clone()
        assert load_init(model, str(tmp_path), class_names=names).head == head
        assert torch.equal(model.head.weight, before if head == "fresh" else source.head.weight)
        assert ("for other classes: class 1 is 'dog' there and 'cow' here" in caplog.text) == (head == "fresh")


def test_weights_of_other_channels_are_rejected_with_the_key(tmp_path: Path) -> None:
    model = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=3, in_chans=3)
    weights = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=3, in_chans=4).state_dict()
    with pytest.raises(UserError, match=r"images with 4 channels; set data\.channels=4"):
        load_init(model, _saved(tmp_path / "w.safetensors", dict(weights)))


def test_unneeded_classifier_is_dropped(tmp_path: Path) -> None:
    model = _build(num_classes=0)
    assert load_init(model, _saved(tmp_path / "w.safetensors", _weights())).head == "dropped"


def test_position_embedding_is_resized_to_the_grid_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weights, model = _weights(), _build(image_size=32)
    with caplog.at_level(logging.INFO):
        report = load_init(model, _saved(tmp_path / "w.safetensors", weights))
    expected = resample_abs_pos_embed(weights["pos_embed"], new_size=[8, 8], old_size=[4, 4])
    assert report.resized_from == (4, 4) and torch.equal(model.pos_embed, expected)
    assert torch.equal(model.pos_embed[:, 0], weights["pos_embed"][:, 0])
    assert (
        "position embedding resized from 4x4 to 8x8 patches" in caplog.text
        and "a square grid was assumed" in caplog.text
    )


def test_all_mismatches_are_in_one_error_and_nothing_is_loaded(tmp_path: Path) -> None:
    weights, model = _weights(stem="patchify"), _build(stem="conv")
    del weights["norm.weight"], weights["blocks.2.attn.qkv.bias"]
    weights |= {"other_token": torch.zeros(1), "blocks.0.mlp.fc1.weight": torch.zeros(8, 64)}
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_init(model, _saved(tmp_path / "w.safetensors", weights))
    message = str(caught.value)
    for expected in (
        "init: the weights of",
        "set model.name, model.patch_size, model.stem",
        "1 unexpected: other_token",
    ):
        assert expected in message
    assert "norm.weight" in message and "blocks.2.attn.qkv.bias" in message and "patch_embed.conv.0.weight" in message
    assert "blocks.0.mlp.fc1.weight (8, 64) instead of (256, 64)" in message
    assert "patch_embed.proj.weight (64, 3, 4, 4) instead of (64, 64, 2, 2)" in message
    _assert_loaded(model, before)


def test_weights_of_another_size_are_rejected_with_their_network(tmp_path: Path) -> None:
    options = {"class_names": [], "mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": 16, "metrics": {}}
    export_network(_build(stem="conv"), tmp_path, model_name="vit_mini", **options)
    with pytest.raises(UserError, match=r"those of the weights \(name=vit_mini, .*stem=3Conv\+3BN\+3ReLU\+1Proj"):
        load_init(_build(name="vit_micro", image_size=32), str(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_named(tmp_path: Path, value: float) -> None:
    weights = _weights()
    weights["blocks.1.mlp.fc2.bias"][3] = value
    with pytest.raises(UserError, match=r"diverged(.|\n)*1 not finite: blocks\.1\.mlp\.fc2\.bias"):
        load_init(_build(), _saved(tmp_path / "w.safetensors", weights))


def _quantized(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "change", [Tensor.long, Tensor.bool, Tensor.cfloat, Tensor.to_sparse, lambda tensor: tensor.to("meta"), _quantized]
)
def test_tensors_of_unsupported_types_are_named(tmp_path: Path, change: Any) -> None:
    weights = _weights(num_classes=0)
    weights["norm.weight"] = change(weights["norm.weight"])
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(
        UserError, match=r"dense floating-point tensors; save(.|\n)*1 of another type: norm\.weight \(torch"
    ):
        load_init(_build(), str(tmp_path / "w.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_point_precision_is_loaded(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in _weights().items()}
    model = _build()
    load_init(model, _saved(tmp_path / "w.safetensors", weights))
    _assert_loaded(model, {name: tensor.float() for name, tensor in weights.items()})


def test_values_beyond_float32_are_not_finite(tmp_path: Path) -> None:
    weights = {name: tensor.double() for name, tensor in _weights().items()}
    weights["norm.bias"][0] = 1e300
    with pytest.raises(UserError, match=r"1 not finite: norm\.bias"):
        load_init(_build(), _saved(tmp_path / "w.safetensors", weights))


def test_position_embedding_of_an_unsupported_shape_is_rejected(tmp_path: Path) -> None:
    weights = _weights() | {"pos_embed": torch.zeros(5, 10, 64)}
    with pytest.raises(UserError, match=r"1 of another shape: pos_embed \(5, 10, 64\)"):
        load_init(_build(), _saved(tmp_path / "w.safetensors", weights))


def test_volos_position_embedding_is_resized_on_its_grid(tmp_path: Path) -> None:
    weights = _weights(name="volo_mini", image_size=16)
    model = build_network(ModelConfig(name="volo_mini"), image_size=(24, 12), num_classes=3)
    given = weights["pos_embed"].clone()
    report = load_init(model, _saved(tmp_path / "w.safetensors", weights))
    expected = resample_abs_pos_embed(given.flatten(1, 2), new_size=[6, 3], old_size=[4, 4], num_prefix_tokens=0)
    torch.testing.assert_close(model.pos_embed.flatten(1, 2), expected)
    assert report.resized_from == (4, 4) and report.head == "loaded"


@pytest.mark.parametrize(("name", "heads"), [("volo_mini", ("head", "aux_head")), ("regnety_mini", ("head.fc",))])
def test_no_classifier_with_another_number_of_classes_is_loaded(
    tmp_path: Path, name: str, heads: tuple[str, ...]
) -> None:
    weights, model = _weights(name=name, num_classes=7), _build(name=name, num_classes=3)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    source = _saved(tmp_path / "w.safetensors", weights)
    report = load_init(model, source)
    fresh = {f"{head}.{kind}" for head in heads for kind in ("weight", "bias")}
    assert report.head == "fresh" and report.num_loaded == len(before) - len(fresh)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key] if key in fresh else weights[key]), key
    assert load_init(_build(name=name, num_classes=0), source).head == "dropped"
    assert load_init(_build(name=name, num_classes=7), source).head == "loaded"


def test_weights_of_another_feed_forward_design_are_rejected(tmp_path: Path) -> None:
    source = _saved(tmp_path / "w.safetensors", _weights(ffn="conv1d_bn"))
    with pytest.raises(UserError, match=r"model\.ffn(.|\n)*missing: .*blocks\.0\.mlp\.fc1\.weight"):
        load_init(_build(), source)
