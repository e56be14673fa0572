"""LoRA: trainable low-rank updates of frozen linear layers (Hu et al. 2021), and their merging into plain weights.

y = W x + b + (alpha / rank) B A x, where W and b are frozen, A is (rank, in) and B is (out, rank). A is drawn as in PEFT and in
LoRA's public code, B is zero: the network begins as it was. The parameters are those of the linear layer plus `lora_A`, `lora_B`
and the buffer `lora_scale`, so that the weights of the layer keep their names.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.models.eva import EvaAttention
from torch import Tensor, nn

from common.config import Config
from common.config_messages import Otherwise
from common.config_types import Positive
from common.errors import UserError
from common.models.replacement import replace_modules

_A, _B, _SCALE = "lora_A", "lora_B", "lora_scale"
_Rank = Annotated[
    int, Field(ge=1), Otherwise("must be at least 1; 4 to 16 are usual, none trains the weights themselves.")
]


class LoraConfig(Config):
    """Low-rank updates of linear layers in place of their weights (LoRA, Hu et al. 2021)."""

    rank: _Rank | None = None
    """Rank of the updates; none = no LoRA. With it the network's own weights are frozen, and only the updates and the head (DINO's,
    the classifier) are trained. Exports hold the sum of weights and updates."""
    alpha: Positive = 16.0
    """Factor on the updates, which are multiplied by alpha / rank; read only with `lora.rank`."""
    targets: tuple[str, ...] = ("qkv", "proj")
    """Names of the linear layers in the blocks that get an update: qkv and proj of the attention, fc1 and fc2 of the MLP (fc1_g,
    fc1_x and fc2 of DINOv3's gated one). Read only with `lora.rank`."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for invalid values."""
        if not self.targets:
            yield "targets", "empty: nothing would be trained. Name linear layers of the blocks, such as [qkv, proj]."


class LoraLinear(nn.Linear):
    """A frozen linear layer with a trainable update of low rank."""

    lora_scale: Tensor

    def __init__(self, layer: nn.Linear, *, rank: int, alpha: float) -> None:
        """Take the weights of `layer`, which are frozen, and draw the update from torch's global generator."""
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        device, dtype = layer.weight.device, layer.weight.dtype
        self.lora_A = nn.Parameter(torch.empty(rank, layer.in_features, device=device, dtype=dtype))
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, rank, device=device, dtype=dtype))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.register_buffer(_SCALE, torch.tensor(alpha / rank, device=device, dtype=dtype))
        self.train(layer.training)

    def forward(self, values: Tensor) -> Tensor:
        """Return the output (..., out) of the layer and its update for values (..., in)."""
        return super().forward(values) + F.linear(F.linear(values, self.lora_A), self.lora_B) * self.lora_scale


def add_lora(network: nn.Module, config: LoraConfig, trained: set[str]) -> None:
    """Replace the target layers among the modules named in `trained` by layers with an update, in place.

    Raise UserError for a target that is not the name of a linear layer among them.
    """
    assert config.rank is not None, "call it with a rank"
    layers = {name: module for name, module in network.named_modules() if type(module) is nn.Linear and name in trained}
    kinds = sorted({name.rpartition(".")[2] for name in layers})
    for target in config.targets:
        if target not in kinds:
            there = f"there are {', '.join(kinds)}. Set those" if kinds else "there are none. Remove lora"
            raise UserError(
                f"lora.targets: {target} is not the name of a linear layer in the blocks of this network that are trained; {there}."
            )
    for name, layer in layers.items():
        parent, _, kind = name.rpartition(".")
        if kind in config.targets:
            block = network.get_submodule(parent)
            setattr(block, kind, LoraLinear(layer, rank=config.rank, alpha=config.alpha))
            if isinstance(block, EvaAttention):
                block.qkv_bias_separate = True  # otherwise it reads the weight of qkv, beside the layer's update


def merged(network: nn.Module) -> nn.Module:
    """Return the network with its updates added to the weights: the same outputs up to rounding, without LoRA.

    It is a copy if there are updates, otherwise the network itself.
    """
    if not any(isinstance(module, LoraLinear) for module in network.modules()):
        return network
    return replace_modules(copy.deepcopy(network), _as_linear)


def _as_linear(module: nn.Module) -> nn.Linear | None:
    """Return the plain linear layer with the weights of a `LoraLinear` and its update; None for any other module."""
    if not isinstance(module, LoraLinear):
        return None
    layer = nn.Linear(module.in_features, module.out_features, bias=module.bias is not None, device="meta")
    layer.weight = nn.Parameter(_merge(module.weight, module.lora_A, module.lora_B, module.lora_scale))
    layer.bias = module.bias
    return layer.train(module.training)


def merge_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a network, such as those of a checkpoint, with the updates added to the weights."""
    result = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in (_A, _B, _SCALE)}
    for name in tensors:
        layer, _, kind = name.rpartition(".")
        parts = [tensors.get(f"{layer}.{part}") for part in ("weight", _A, _B, _SCALE)]
        if kind == _A and all(part is not None for part in parts):
            result[f"{layer}.weight"] = _merge(*parts)  # type: ignore[arg-type]
    return result


@torch.no_grad()
def _merge(weight: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """Return W + scale * B A."""
    return weight + scale * (b @ a)
