"""Owns the designs of the feed-forward block that table 5 of Scaled ReLU compares, by name.

    mlp        LayerNorm, Linear, GELU, Linear: the usual one
    no_norm    without the LayerNorm before it
    mlp_relu   ReLU for GELU
    conv1d_bn  Algorithm 2: Conv1d + BN + GELU, twice
    conv1d     the same without the BN

GELU for ReLU in the stem, the table's other row, is a stem: 3Conv+3BN+3GELU+1Proj.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

FEED_FORWARDS = ("mlp", "no_norm", "mlp_relu", "conv1d_bn", "conv1d")


class Conv1dMlp(nn.Module):
    """Compute the feed-forward block of Scaled ReLU, Algorithm 2 (supplement), "using Conv1D+BN1D+GELU".

        w1 = Conv1d(in_features, hidden_features, kernel_size=1, stride=1), BatchNorm1d(hidden_features), GELU
        w2 = Conv1d(hidden_features, in_features, kernel_size=1, stride=1), BatchNorm1d(in_features), GELU
        x = drop(w1(x.permute(0, 2, 1))), x = w2(x).permute(0, 2, 1)

    Unlike the usual MLP it ends in a GELU. A kernel of 1 is a linear layer for each token; BN takes its statistics over
    images and tokens together, however many. The LayerNorm before it stays: the table removes it in a row of its own.
    "Conv1D+GELU" is not spelled out in the paper: here both BNs are left out and both GELUs kept. The convolutions are
    drawn as PyTorch draws them, for the paper gives no other draw.
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
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        widths = (in_features, hidden_features, in_features)
        self.w1, self.w2 = (
            nn.Sequential(
                nn.Conv1d(before, after, kernel_size=1, **place),
                *([nn.BatchNorm1d(after, **place)] if norm else []),
                nn.GELU(),
            )
            for before, after in zip(widths, widths[1:], strict=False)
        )
        self.drop = nn.Dropout(drop)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the shape given: (B, N, D), or (B, H, W, D) as VOLO has them."""
        channels_first: Tensor = self.w2(self.drop(self.w1(tokens.flatten(1, -2).transpose(1, 2))))
        return channels_first.transpose(1, 2).reshape(tokens.shape)


def set_feed_forward(blocks: Iterable[nn.Module], design: str) -> None:
    """Give timm's transformer blocks, as they were built with `norm2` and `mlp`, another feed-forward design in place."""
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
