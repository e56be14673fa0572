"""Weight initialization of transformers, by paper. Stems initialize themselves in `stems`."""

import math
from typing import Any

from torch import nn

from common.models.stem import Stem


def initialize_deit(model: Any) -> None:
    """Initialize as DeiT and DINO do: linear layers, position embedding, class token truncated normal 0.02, biases zero.

    timm has already done so when it built the model, except for the class token.
    """
    assert model.cls_token is not None
    nn.init.trunc_normal_(model.cls_token, std=0.02)


def initialize_narrow(model: Any) -> None:
    """Initialize linear layers Xavier uniform with zero biases, position embedding and class token truncated normal 0.02.

    For networks narrower than DeiT's: at width 64, a standard deviation of 0.02 is 5 times smaller than Xavier's, each block
    adds almost nothing to its input, and the class token of the untrained network hardly depends on the image.
    """
    initialize_deit(model)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)


def initialize_xiao(model: Any) -> None:
    """Initialize as Early Convolutions does (appendix and published code).

    Patchify: truncated normal, sigma = sqrt(1 / fan_in), zero bias (convolutional stems initialize themselves). Position
    embedding: normal 0.02. Class token and classifier: zeros. MLP: Xavier uniform, bias normal 1e-6. Attention: as in
    PyTorch's MultiheadAttention, that is, Xavier uniform for queries, keys and values as one matrix, PyTorch's default for
    the output projection, zero biases.
    """
    assert model.cls_token is not None and model.pos_embed is not None
    nn.init.zeros_(model.cls_token)
    nn.init.normal_(model.pos_embed, std=0.02)
    stem = model.patch_embed
    if isinstance(stem, Stem) and not stem.spec.kernels:
        nn.init.trunc_normal_(stem.proj.weight, std=math.sqrt(1 / stem.proj.weight[0].numel()))
        if stem.proj.bias is not None:
            nn.init.zeros_(stem.proj.bias)
    for name, linear in model.named_modules():
        if isinstance(linear, nn.Linear):
            _initialize_xiao_linear(name, linear)


def _initialize_xiao_linear(name: str, linear: nn.Linear) -> None:
    """Initialize one linear layer by its role: classifier, attention output projection, attention qkv, or MLP."""
    if name == "head":
        nn.init.zeros_(linear.weight)
    elif name.endswith("attn.proj"):
        linear.reset_parameters()
    else:
        nn.init.xavier_uniform_(linear.weight)
    if ".mlp." in name:
        nn.init.normal_(linear.bias, std=1e-6)
    else:
        nn.init.zeros_(linear.bias)
