"""Changes of weights that keep their function, made and logged before the strict check.

The network that loads the weights states the changes: it has other input channels, or DINOv3's biases, which timm has as two
networks, with and without.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_BIASES = (".attn.q_bias", ".attn.v_bias")


def adapt_input_channels(model: nn.Module, weights: dict[str, Tensor]) -> tuple[int, int] | None:
    """Adapt the first convolution to the network's input channels; return the (given, wanted) channels, or None if equal.

    As in timm, one channel and three are repeated in turn and scaled, three to five as RGBRG times 3/5, and several are summed to
    one: an image with the same values in every channel has about the same output as before (from one channel, to one and to a
    multiple of three exactly). Other numbers are left to the check of all tensors.
    """
    name = next((f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)
    given = None if name is None else weights.get(name)
    if name is None or given is None or given.dim() != 4:
        return None
    channels, wanted = given.shape[1], model.state_dict()[name].shape[1]
    if channels == wanted or (channels not in (1, 3) and wanted != 1):
        return None
    given = given.float()  # a sum in half precision is rounded
    if wanted == 1:
        weights[name] = given.sum(1, keepdim=True)
    else:
        weights[name] = given.repeat(1, -(-wanted // channels), 1, 1)[:, :wanted] * (channels / wanted)
    return channels, wanted


def adapt_zero_biases(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> int:
    """Drop biases of queries and values that are 0 everywhere, or add them as 0, as the network has it; return how many.

    DINOv3's distilled networks have such biases, and timm has these networks without them.
    """
    unneeded = [name for name in weights if name.endswith(_BIASES) and name not in expected]
    if unneeded and not any(weights[name].any() for name in unneeded):
        for name in unneeded:
            del weights[name]
        return len(unneeded)
    if any(name.endswith(_BIASES) for name in weights):
        return 0
    lacking = [name for name in expected if name.endswith(_BIASES)]
    weights |= {name: torch.zeros_like(expected[name]) for name in lacking}
    return len(lacking)
