"""Layers for the decay of the learning rate and for freezing: the same with every version of timm."""

from typing import Any

import pytest
from torch import nn

from common.models.layers import layer_numbers
from common.models.meta import on_meta_device
from common.models.networks import ModelConfig, build_network
from common.training.optimizers import parameter_groups

OLDER = {"stem": r"^cls_token|pos_embed|patch_embed", "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))]}
"""What timm's networks gave before 1.0.28: neither the registers nor the norm before the blocks are in the stem."""
NAMES = ("vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "vit_base_patch16_clip_224")


def small(name: str) -> Any:
    """Return two blocks of timm's network, without a classifier."""
    with on_meta_device():
        return build_network(ModelConfig(name=name, kwargs=("depth=2",)), image_size=112, num_classes=0)


def as_older_timm(network: Any, patch: pytest.MonkeyPatch) -> Any:
    """Let a network describe itself as timm 1.0.20 did."""
    patch.setattr(type(network), "group_matcher", lambda self, coarse=False: OLDER)
    patch.setattr(type(network), "no_weight_decay", lambda self: {"pos_embed", "cls_token"})
    return network


@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_what_precedes_the_blocks_are_layer_0(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = as_older_timm(small(name), monkeypatch)
    numbers = layer_numbers(nn.ModuleList([network, nn.Linear(2, 2, bias=False)]))
    early = {each for each in numbers if each.startswith(("0.reg_token", "0.norm_pre"))}
    assert early and {numbers[each] for each in early} == {0}
    assert (numbers["0.blocks.0.norm1.weight"], numbers["0.norm.weight"], numbers["1.weight"]) == (1, 2, 3)


@pytest.mark.parametrize("name", NAMES[:2])
def test_registers_are_decayed_as_the_class_token_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = as_older_timm(small(name), monkeypatch)
    for decay in (True, False):
        groups = parameter_groups(network, layer_decay=1.0, decay_embeddings=decay)
        decayed = [each for group in groups if group["decayed"] for each in group["params"]]  # type: ignore[attr-defined]
        for token in (network.cls_token, network.reg_token):
            assert any(each is token for each in decayed) == decay
