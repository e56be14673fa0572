"""Training of a part of a network: frozen stem, blocks or all but the norms; low-rank updates of frozen weights (LoRA)."""

import types
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from common.config import Config
from common.errors import UserError
from common.models.classifier import classifier_names
from common.models.layers import layer_numbers
from common.models.lora import LoraConfig, add_lora

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


class FreezeConfig(Config):
    """Parts of the network that keep the weights they start with. The head (DINO's, the classifier) is always trained.

    Frozen parameters get no gradient and no optimizer state; batch norm in a frozen part normalizes by its running statistics,
    which do not change. Frozen is what any of the keys names.
    """

    embeddings: bool = False
    """Whether the stem, the position embedding, the registers and (except in VOLO) the class token are frozen."""
    blocks: Annotated[int, Field(ge=0)] = 0
    """Number of blocks frozen, from the first one. They are counted as for `optim.layer_decay` (timm's `group_matcher`): the final
    norm belongs to the last block, VOLO's downsampling is a block, and a RegNetY has residual blocks. Only with `freeze.embeddings`
    does the backward pass end above the frozen blocks."""
    all_but_norms: bool = False
    """Whether everything but the scales and biases of the norms (layer norm, batch norm) is frozen."""


def adaptation_problems(freeze: FreezeConfig, lora: LoraConfig) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for keys of the two sections that contradict each other."""
    for name in ("embeddings", "all_but_norms"):
        if lora.rank is not None and getattr(freeze, name):
            yield (
                f"freeze.{name}",
                "true: has no effect with lora.rank, which freezes all weights of the network. Remove one of them.",
            )


def adaptation_warnings(freeze: FreezeConfig, lora: LoraConfig, init: str | None) -> Iterator[str]:
    """Yield a warning, with its remedy, if random weights are frozen."""
    if init is None and (freeze != FreezeConfig() or lora.rank is not None):
        section = "lora" if lora.rank is not None else "freeze"
        yield f"{section} without init: the frozen weights are random and stay so. Set init to trained weights."


def adapt_network(network: nn.Module, freeze: FreezeConfig, lora: LoraConfig) -> None:
    """Freeze what `freeze` names and add the updates of `lora`, in place; the classifier stays trainable.

    Raise UserError for more blocks than the network has, for a network without blocks, and for a target of LoRA that is not there.
    """
    if freeze == FreezeConfig() and lora.rank is None:
        return
    layers = _backbone_layers(network)
    depth = max(layers.values())
    if not depth and (freeze.blocks or freeze.embeddings):
        raise UserError(
            f"freeze.{'blocks' if freeze.blocks else 'embeddings'}: this network has no blocks. Remove the key."
        )
    if freeze.blocks > depth:
        raise UserError(f"freeze.blocks = {freeze.blocks}: this network has {depth} blocks. Set at most {depth}.")
    norms = {
        f"{prefix}.{name}"
        for prefix, module in network.named_modules()
        if isinstance(module, _NORMS)
        for name, _ in module.named_parameters(recurse=False)
    }
    for name, parameter in network.named_parameters():
        if name in layers:
            is_frozen = (
                (freeze.embeddings and layers[name] == 0)
                or 0 < layers[name] <= freeze.blocks
                or (freeze.all_but_norms and name not in norms)
                or lora.rank is not None
            )
            parameter.requires_grad_(not is_frozen)
    if lora.rank is not None:
        add_lora(network, lora, {name.rpartition(".")[0] for name, layer in layers.items() if layer > freeze.blocks})


def is_trained(network: nn.Module) -> bool:
    """Return whether any parameter of the network is trained."""
    return any(parameter.requires_grad for parameter in network.parameters())


def freeze_statistics(network: nn.Module, *copies: nn.Module) -> None:
    """Keep every batch norm of `network` whose parameters are frozen in evaluation mode, and the same ones of its `copies`.

    Call it after `synchronize_batch_norm`, which replaces batch norms.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            parameters = list(module.parameters(recurse=False))
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                for each in (module, *(other.get_submodule(name) for other in copies)):
                    each.eval()
                    each.train = types.MethodType(_stay_in_evaluation_mode, each)  # type: ignore[method-assign]


def _stay_in_evaluation_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    """Take the place of `nn.Module.train` in a frozen batch norm."""
    return module


def _backbone_layers(network: Any) -> dict[str, int]:
    """Return the layer number of each parameter except the classifier's; 0 for all if the network does not number its layers."""
    classifiers = tuple(f"{name}." for name in classifier_names(network))
    names = [name for name, _ in network.named_parameters() if not name.startswith(classifiers)]
    numbers = layer_numbers(network) if hasattr(network, "group_matcher") else dict.fromkeys(names, 0)
    return {name: numbers[name] for name in names}
