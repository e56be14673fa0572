"""Tests of DINO's projection head with batch norm."""

import torch
from torch.nn.functional import gelu, normalize

from pretrain.head import DINOHead


def test_batch_norm_precedes_both_activations() -> None:
    torch.manual_seed(0)
    head = DINOHead(6, 12, hidden_dim=16, bottleneck_dim=4, batch_norm=True)
    features = torch.randn(10, 6)
    first, second, third = (layer for layer in head.mlp if isinstance(layer, torch.nn.Linear))

    def normalized(values: torch.Tensor) -> torch.Tensor:
        return (values - values.mean(0)) / (values.var(0, unbiased=False) + 1e-5).sqrt()

    hidden = gelu(normalized(second(gelu(normalized(first(features))))))
    assert torch.allclose(head.project(features), normalize(third(hidden), dim=-1), atol=1e-5)


def test_features_with_a_common_mean_differ_after_batch_norm_only() -> None:
    torch.manual_seed(0)
    features = 5 + 0.1 * torch.randn(32, 6)
    similarity = {}
    for batch_norm in (False, True):
        bottleneck = DINOHead(6, 12, hidden_dim=64, bottleneck_dim=16, batch_norm=batch_norm).project(features)
        similarity[batch_norm] = (bottleneck @ bottleneck.T).mean().item()
    assert similarity[False] > 0.95
    assert similarity[True] < 0.3
