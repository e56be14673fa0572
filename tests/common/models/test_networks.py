"""A recipe's `model` becomes a network of timm's registry, or a message that says what is wrong with it."""

import pytest
import timm
import torch
from timm.models import VisionTransformer

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
def test_the_same_seed_draws_the_same_network(name: str) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(build_network(ModelConfig(name=name), image_size=16, num_classes=4))
    first, second = (network.state_dict().values() for network in networks)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_everything_wrong_with_a_config_is_said_by_key() -> None:
    problems = dict(ModelConfig(stem="conv", stem_strides=(2, 2), drop_path=1.5).problems())
    assert set(problems) == {"stem_strides", "drop_path"}
    assert "the nearest is 'vit_small'" in dict(ModelConfig(name="vit_smal").problems())["name"]
    assert "3Conv+3BN+1Proj" in dict(ModelConfig(stem="3Conv+3BM+1Proj").problems())["stem"]
    assert "positive" in dict(ModelConfig(patch_size=0).problems())["patch_size"]
    assert not list(ModelConfig(stem="conv", stem_strides=(2, 2, 2, 2)).problems())


def test_a_wrong_config_is_refused_with_its_key() -> None:
    with pytest.raises(UserError, match=r"model\.name: 'resnet' is unknown.*choose one of vit_tiny, vit_small"):
        build_network(ModelConfig(name="resnet"), image_size=32, num_classes=2)
    with pytest.raises(UserError, match=r"data\.image_size: 30 is no multiple of the patch size 4; choose 28 or 32"):
        build_network(ModelConfig(name="vit_micro"), image_size=30, num_classes=2)


def test_what_a_convolutional_network_has_not_is_refused_by_key() -> None:
    asked = ModelConfig(name="regnety_mini", patch_size=4, stem="conv", stem_strides=(2, 1, 1, 2), ffn="no_norm")
    problems = dict(asked.problems())
    assert set(problems) == {"patch_size", "stem", "stem_strides", "ffn"}
    assert "'conv' cannot be had with regnety_mini" in problems["stem"] and "set model.stem=none" in problems["stem"]
    assert "set model.ffn=mlp" in problems["ffn"]
    assert not list(ModelConfig(name="regnety_mini").problems())


def test_an_unknown_feed_forward_design_names_the_choices() -> None:
    for name in ("vit_mini", "regnety_mini"):
        message = dict(ModelConfig(name=name, ffn="conv1d_bm").problems())["ffn"]
        assert "the nearest is 'conv1d_bn'" in message and all(design in message for design in FEED_FORWARDS)


def test_volo_is_refused_where_several_sizes_are_needed() -> None:
    with pytest.raises(
        UserError, match=r"model\.name: volo_mini takes images of the one size.*pre-train one of vit_tiny"
    ):
        build_network(ModelConfig(name="volo_mini"), image_size=16, num_classes=0, multi_crop=True)


def test_the_patch_is_the_one_asked_for_or_the_architectures_own() -> None:
    assert ModelConfig(name="vit_micro").patch() == 4
    assert ModelConfig(name="vit_micro", patch_size=2).patch() == 2
    assert ModelConfig(name="regnety_mini").patch() is None


def test_no_name_of_ours_hides_one_of_timms() -> None:
    for name in ARCHITECTURES:
        assert timm.model_entrypoint(name).__module__.startswith("common.models.")
        assert not hasattr(timm.models, name)
