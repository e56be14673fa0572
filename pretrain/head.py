"""Owns DINO's projection head."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import weight_norm


class DINOHead(nn.Module):
    """Map features (N, feature_dim) to scores over `outputs` codes (N, outputs).

    A three-layer MLP with GELU, L2 normalisation of its bottleneck, then a weight-normed linear layer without bias. No
    batch norm. With `norm_last_layer` the gain of the last layer stays 1, so its scores are cosines (DINO, section 3.1 and
    appendix C). Linear layers start from a truncated normal of deviation 0.02 with zero bias.
    """

    def __init__(
        self,
        feature_dim: int,
        outputs: int,
        *,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        norm_last_layer: bool = True,
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(feature_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = weight_norm(nn.Linear(bottleneck_dim, outputs, bias=False))
        gain = self.last_layer.parametrizations["weight"].original0  # type: ignore[union-attr, index]
        nn.init.ones_(gain)
        gain.requires_grad_(not norm_last_layer)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores (N, outputs) of features (N, feature_dim)."""
        return self.last_layer(self.project(features))  # type: ignore[no-any-return]

    def project(self, features: Tensor) -> Tensor:
        """Return what the last layer is given: the normalised bottleneck (N, bottleneck_dim) of features (N, feature_dim)."""
        bottleneck = self.mlp(features)
        guard = 1e-6 if bottleneck.dtype == torch.float16 else 1e-12
        return normalize(bottleneck, dim=-1, eps=guard)
