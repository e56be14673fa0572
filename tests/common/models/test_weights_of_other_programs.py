"""Weights as other programs save them: the network is found under their prefixes, and what else the file holds is logged."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.models import adapt_input_conv
from torch import Tensor

from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from common.models.pickled_tensors import read_pickled
from common.models.weights import load_init


def _network(seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return build_network(ModelConfig(name="vit_mini"), image_size=12, num_classes=0, **options).eval()


PLAIN: dict[str, Tensor] = {name: tensor.clone() for name, tensor in _network().state_dict().items()}
HEAD = {"dino_head.mlp.0.weight": torch.zeros(4, 4), "dino_head.last_layer.weight_g": torch.zeros(4, 1)}


def _chunked(name: str) -> str:
    first, _, rest = name.partition(".")
    return f"blocks.{int(rest[0]) // 2}.{rest}" if first == "blocks" else name


def _prefixed(prefix: str, tensors: dict[str, Tensor] = PLAIN) -> dict[str, Tensor]:
    return {f"{prefix}{_chunked(name)}": tensor for name, tensor in tensors.items()}


_ZEROS = {name: torch.zeros_like(tensor) for name, tensor in PLAIN.items()}
LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "DINOv2's training": (
        {
            "model": {
                **_prefixed("student.backbone.", _ZEROS),
                **_prefixed("teacher.backbone."),
                **{f"teacher.{name}": tensor for name, tensor in HEAD.items()},
                "teacher.backbone.mask_token": torch.zeros(1, 64),
            },
            "optimizer": {"state": {}},
            "iteration": 3,
        },
        "network: model: teacher.backbone; also in the file: student.backbone; not loaded: dino_head (2 tensors), mask_token (1",
    ),
    "DINOv2's teacher": (
        {"teacher": _prefixed("backbone.") | HEAD},
        "network: teacher; not loaded: dino_head (2 tensors)",
    ),
    "DINOv3's training": (
        _prefixed("gram_teacher.backbone.", _ZEROS)
        | _prefixed("student.backbone.", _ZEROS)
        | _prefixed("teacher.backbone.")
        | _prefixed("model_ema.backbone.", _ZEROS),
        "network: teacher.backbone; also in the file: gram_teacher.backbone, model_ema.backbone, student.backbone",
    ),
    "torch.compile": ({f"_orig_mod.{name}": tensor for name, tensor in PLAIN.items()}, ""),
    "torch.compile under DDP": (
        {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in PLAIN.items()}},
        "network: state_dict",
    ),
    "torch.compile inside": ({f"backbone._orig_mod.{name}": tensor for name, tensor in PLAIN.items()}, ""),
    "Lightning": (
        {"state_dict": {f"model.{name}": t for name, t in PLAIN.items()} | {"criterion.center": torch.zeros(3)}},
        "network: state_dict; not loaded: criterion (1 tensor)",
    ),
    "lightly": (
        {"state_dict": _prefixed("student_backbone.vit.", _ZEROS) | _prefixed("teacher_backbone.vit.")},
        "network: state_dict: teacher_backbone.vit; also in the file: student_backbone.vit",
    ),
    "lightly's momentum": (
        _prefixed("backbone_momentum.", _ZEROS) | _prefixed("backbone."),
        "network: backbone; also in the file: backbone_momentum",
    ),
    "MAE's training": (
        {
            "model": PLAIN
            | {
                "mask_token": torch.zeros(1, 1, 8),
                "decoder_embed.weight": torch.zeros(8, 64),
                "decoder_pos_embed": torch.zeros(1),
            }
        },
        "network: model; not loaded: mask_token (1 tensor), decoder_embed (1 tensor), decoder_pos_embed (1 tensor)",
    ),
    "timm's training": (
        {"state_dict": PLAIN, "args": Namespace(lr=1e-3), "best": np.float64(71.2)},
        "network: state_dict",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_network_is_found_in_the_layout_of(layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content, logged = LAYOUTS[layout]
    torch.save(content, tmp_path / "w.pth")
    network, images = _network(seed=1), torch.rand(2, 3, 12, 12)
    with caplog.at_level(logging.INFO):
        load_init(network, str(tmp_path / "w.pth"))
    assert torch.equal(network(images), _network()(images))
    assert logged in caplog.text


def test_folder_with_pytorch_model_bin_is_read(tmp_path: Path) -> None:
    torch.save(PLAIN, tmp_path / "pytorch_model.bin")
    network, images = _network(seed=1), torch.rand(2, 3, 12, 12)
    report = load_init(network, str(tmp_path))
    assert torch.equal(network(images), _network()(images)) and report.source.endswith("pytorch_model.bin")


def test_one_channel_stem_is_repeated_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    weight = PLAIN["patch_embed.proj.weight"]
    torch.save(PLAIN | {"patch_embed.proj.weight": weight.sum(1, keepdim=True)}, tmp_path / "gray.pth")
    network, images = _network(seed=1), torch.rand(2, 1, 12, 12).expand(2, 3, 12, 12)
    with caplog.at_level(logging.INFO):
        report = load_init(network, str(tmp_path / "gray.pth"))
    torch.testing.assert_close(network(images), _network()(images), atol=1e-5, rtol=0)
    assert report.channels == (1, 3) and "1 input channels repeated" in caplog.text


@pytest.mark.parametrize("wanted", [1, 2, 4, 5, 6])
def test_stem_of_three_channels_is_adapted_as_in_timm(wanted: int, tmp_path: Path) -> None:
    torch.save(PLAIN, tmp_path / "rgb.pth")
    network = _network(seed=1, in_chans=wanted)
    assert load_init(network, str(tmp_path / "rgb.pth")).channels == (3, wanted)
    expected = adapt_input_conv(wanted, PLAIN["patch_embed.proj.weight"])
    torch.testing.assert_close(network.patch_embed.proj.weight, expected)
    if wanted in (1, 6):
        images = torch.rand(2, 1, 12, 12)
        wide, rgb = images.expand(2, wanted, 12, 12), images.expand(2, 3, 12, 12)
        torch.testing.assert_close(network(wide), _network()(rgb), atol=1e-5, rtol=0)


def test_stem_of_another_number_of_channels_is_refused(tmp_path: Path) -> None:
    torch.save(PLAIN | {"patch_embed.proj.weight": torch.zeros(64, 5, 4, 4)}, tmp_path / "five.pth")
    with pytest.raises(UserError, match=r"patch_embed\.proj\.weight \(64, 5, 4, 4\) instead of \(64, 3, 4, 4\)"):
        load_init(_network(), str(tmp_path / "five.pth"))


class _Settings(dict[str, Any]):
    """Settings of a training program, a class of its own."""


class _Callback:
    """Object with a state."""

    def __init__(self) -> None:
        self.best = 0.5


@pytest.mark.parametrize("beside", [_Settings(lr=1.0), _Callback(), torch.optim.SGD([torch.zeros(1)], lr=1.0)])
def test_objects_beside_the_tensors_are_replaced_and_named(
    beside: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({"state_dict": PLAIN, "beside": beside}, tmp_path / "w.ckpt")
    content, others = read_pickled(tmp_path / "w.ckpt")
    assert type(content["beside"]) is not type(beside) and any(type(beside).__name__ in name for name in others)
    with caplog.at_level(logging.INFO):
        load_init(_network(), str(tmp_path / "w.ckpt"))
    assert "not read from w.ckpt, since they are no plain data:" in caplog.text and type(beside).__name__ in caplog.text


def test_mismatch_of_many_tensors_is_a_screenful(tmp_path: Path) -> None:
    network = build_network(ModelConfig(name="vit_base"), image_size=32, num_classes=0)
    torch.save({f"other.{name}": tensor for name, tensor in PLAIN.items()}, tmp_path / "w.pth")
    with pytest.raises(UserError) as caught:
        load_init(network, str(tmp_path / "w.pth"))
    message = str(caught.value)
    assert len(message) < 3000 and "blocks.*.norm1.weight (8)" in message and "model.name=init" in message
