"""DINO's projection head."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import weight_norm


class DINOHead(nn.Module):
    """Map features (N, feature_dim) to logits over `out_dim` prototypes (N, out_dim).

    A three-layer MLP with GELU, L2 normalization of the bottleneck, then a weight-normalized linear layer without bias. With
    `batch_norm`, batch norm precedes each GELU (DINO's --use_bn_in_head). With `norm_last_layer` the gain of the last layer is
    fixed at 1, so the logits are cosine similarities (DINO, section 3.1 and appendix C). Linear layers are initialized from a
    truncated normal with standard deviation 0.02, biases with 0.
    """

    def __init__(
        self,
        feature_dim: int,
        out_dim: int,
        *,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        norm_last_layer: bool = True,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        norm = [nn.BatchNorm1d(hidden_dim) for _ in range(2 if batch_norm else 0)]
        self.mlp = nn.Sequential(
            nn.Linear(feature_dim, hidden_dim),
            *norm[:1],
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            *norm[1:],
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = weight_norm(nn.Linear(bottleneck_dim, out_dim, bias=False))
        gain = self.last_layer.parametrizations["weight"].original0  # type: ignore[union-attr, index]
        nn.init.ones_(gain)
        gain.requires_grad_(not norm_last_layer)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (N, out_dim) of features (N, feature_dim)."""
        return self.last_layer(self.project(features))  # type: ignore[no-any-return]

    def project(self, features: Tensor) -> Tensor:
        """Return the L2-normalized bottleneck (N, bottleneck_dim), the last layer's input, of features (N, feature_dim)."""
        bottleneck = self.mlp(features)
        eps = 1e-6 if bottleneck.dtype == torch.float16 else 1e-12
        return normalize(bottleneck, dim=-1, eps=eps)
