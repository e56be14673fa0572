"""The `model` section of a recipe is built as a network of timm's registry, or rejected with an explanation."""

import pytest
import timm
import torch
from conftest import problems_of
from timm.models import VisionTransformer

from common.config import build
from common.errors import UserError
from common.models.feed_forward import FEED_FORWARDS
from common.models.networks import ARCHITECTURES, ModelConfig, build_network
from common.models.regnet import RegNetY
from common.models.volo import Volo


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_timm_finds_every_architecture_by_name(name: str) -> None:
    size = ARCHITECTURES[name].image_size
    with torch.device("meta"):
        model = timm.create_model(name)
    assert isinstance(model, VisionTransformer | Volo | RegNetY)
    assert model.num_classes == 1000 and model.pretrained_cfg["input_size"] == (3, size, size)
    assert isinstance(model.get_submodule(model.pretrained_cfg["first_conv"]), torch.nn.Conv2d)
    if isinstance(model, VisionTransformer):
        assert (model.global_pool, model.norm.eps) == ("token", 1e-6)
        assert model.patch_embed.img_size == (size, size)


@pytest.mark.parametrize("name", ["vit_mini", "volo_mini", "regnety_mini"])
def test_same_seed_gives_the_same_network(name: str) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build_network(ModelConfig(name=name), image_size=16, num_classes=4))
    first, second = (network.state_dict().values() for network in networks)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_all_problems_of_a_config_are_reported_by_key() -> None:
    problems = problems_of(ModelConfig, stem="conv", stem_strides=(2, 2), drop_path=1.5)
    assert set(problems) == {"stem_strides", "drop_path"}
    assert "Did you mean vit_small?" in problems_of(ModelConfig, name="vit_smal")["name"]
    assert "3Conv+3BN+1Proj" in problems_of(ModelConfig, stem="3Conv+3BM+1Proj")["stem"]
    assert "positive" in problems_of(ModelConfig, patch_size=0)["patch_size"]
    assert not problems_of(ModelConfig, stem="conv", stem_strides=(2, 2, 2, 2))


def test_invalid_config_is_rejected_with_its_key() -> None:
    with pytest.raises(UserError, match=r"name: 'resnet' is unknown.*Choose one of vit_tiny, vit_small"):
        build(ModelConfig, {"name": "resnet"}, source="a test")
    with pytest.raises(UserError, match=r"data\.image_size: 30 is not a multiple of the patch size 4; set 28 or 32"):
        build_network(ModelConfig(name="vit_micro"), image_size=30, num_classes=2)


def test_options_that_a_convolutional_network_lacks_are_rejected_by_key() -> None:
    options = {"patch_size": 4, "stem": "conv", "stem_strides": (2, 1, 1, 2), "ffn": "no_norm"}
    problems = problems_of(ModelConfig, name="regnety_mini", **options)
    assert set(problems) == {"patch_size", "stem", "stem_strides", "ffn"}
    assert "'conv' is not supported by regnety_mini" in problems["stem"] and "set model.stem=none" in problems["stem"]
    assert "set model.ffn=mlp" in problems["ffn"]
    assert not problems_of(ModelConfig, name="regnety_mini")


def test_unknown_feed_forward_design_lists_the_choices() -> None:
    for name in ("vit_mini", "regnety_mini"):
        message = problems_of(ModelConfig, name=name, ffn="conv1d_bm")["ffn"]
        assert "Did you mean conv1d_bn?" in message and all(design in message for design in FEED_FORWARDS)


def test_volo_is_rejected_for_multi_crop() -> None:
    with pytest.raises(
        UserError, match=r"model\.name: volo_mini only accepts images of the size.*pre-train one of vit_tiny"
    ):
        build_network(ModelConfig(name="volo_mini"), image_size=16, num_classes=0, multi_crop=True)


def test_patch_size_is_configured_or_the_architectures_default() -> None:
    assert ModelConfig(name="vit_micro").patch() == 4
    assert ModelConfig(name="vit_micro", patch_size=2).patch() == 2
    assert ModelConfig(name="regnety_mini").patch() is None


def test_registered_names_do_not_shadow_timms() -> None:
    for name in ARCHITECTURES:
        assert timm.model_entrypoint(name).__module__.startswith("common.models.")
        assert not hasattr(timm.models, name)
