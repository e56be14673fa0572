"""Feed-forward blocks compared in table 5 of Scaled ReLU, by name.

    mlp        LayerNorm, Linear, GELU, Linear: the standard block
    no_norm    without the LayerNorm before it
    mlp_relu   ReLU instead of GELU
    conv1d_bn  Algorithm 2: Conv1d + BN + GELU, twice
    conv1d     the same without the BN

The table's other row, GELU instead of ReLU in the stem, is a stem: 3Conv+3BN+3GELU+1Proj.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

FEED_FORWARDS = ("mlp", "no_norm", "mlp_relu", "conv1d_bn", "conv1d")


class Conv1dMlp(nn.Module):
    """Feed-forward block of Scaled ReLU, Algorithm 2 (supplement), "using Conv1D+BN1D+GELU".

        w1 = Conv1d(in_features, hidden_features, kernel_size=1, stride=1), BatchNorm1d(hidden_features), GELU
        w2 = Conv1d(hidden_features, in_features, kernel_size=1, stride=1), BatchNorm1d(in_features), GELU
        x = drop(w1(x.permute(0, 2, 1))), x = w2(x).permute(0, 2, 1)

    Unlike the standard MLP, it ends with a GELU. A convolution with kernel size 1 is a linear layer on each token; BN takes its
    statistics over images and tokens together, whatever their number. The LayerNorm before the block is kept: the table removes
    it in a separate row. The paper does not define "Conv1D+GELU": here it has no BN and both GELUs. The convolutions use
    PyTorch's default initialization, since the paper gives no other.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        norm: bool,
        drop: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        widths = (in_features, hidden_features, in_features)
        self.w1, self.w2 = (
            nn.Sequential(
                nn.Conv1d(in_width, out_width, kernel_size=1, **factory_kwargs),
                *([nn.BatchNorm1d(out_width, **factory_kwargs)] if norm else []),
                nn.GELU(),
            )
            for in_width, out_width in zip(widths, widths[1:], strict=False)
        )
        self.drop = nn.Dropout(drop)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the input's shape: (B, N, D), or (B, H, W, D) in VOLO."""
        channels_first: Tensor = self.w2(self.drop(self.w1(tokens.flatten(1, -2).transpose(1, 2))))
        return channels_first.transpose(1, 2).reshape(tokens.shape)


def set_feed_forward(blocks: Iterable[nn.Module], design: str) -> None:
    """Replace, in place, the feed-forward blocks (`norm2` and `mlp`) of timm's transformer blocks by another design."""
    assert design in FEED_FORWARDS, design
    block: Any
    for block in blocks:
        if design == "no_norm":
            block.norm2 = nn.Identity()
        elif design == "mlp_relu":
            block.mlp.act = nn.ReLU()
        elif design in ("conv1d_bn", "conv1d"):
            linear = block.mlp.fc1
            block.mlp = Conv1dMlp(
                linear.in_features,
                linear.out_features,
                norm=design == "conv1d_bn",
                drop=block.mlp.drop1.p,
                device=linear.weight.device,
                dtype=linear.weight.dtype,
            )
