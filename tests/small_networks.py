"""A network small enough to compute optimizer steps by hand, and its gradients."""

import torch
from torch import nn


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def gradients(network: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    network.zero_grad()
    network(inputs).square().sum().backward()
    return [parameter.grad.clone() for parameter in network.parameters()]
