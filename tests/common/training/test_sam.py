"""Tests of SAM's perturbation and its restoration against a step by hand."""

import copy

import pytest
import torch
from small_networks import gradients, small_network
from torch import nn

from common.training.optimizers import guarded_step
from common.training.sam import SharpnessAware, frozen_statistics


def test_sam_matches_a_step_by_hand() -> None:
    network, inputs, rho, lr = small_network(), torch.randn(5, 4).double(), 0.05, 0.1
    by_hand = copy.deepcopy(network)
    first = gradients(by_hand, inputs)
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in first))
    perturbed = copy.deepcopy(by_hand)
    with torch.no_grad():
        for parameter, gradient in zip(perturbed.parameters(), first, strict=True):
            parameter.add_(rho * gradient / norm)
    second = gradients(perturbed, inputs)
    expected = [p.detach() - lr * g for p, g in zip(by_hand.parameters(), second, strict=True)]

    optimizer = torch.optim.SGD(network.parameters(), lr=lr)
    sam = SharpnessAware(network.parameters(), rho)
    gradients(network, inputs)
    with sam.perturbed():
        network(inputs).square().sum().backward()
    optimizer.step()
    for parameter, value in zip(network.parameters(), expected, strict=True):
        assert torch.allclose(parameter, value, atol=1e-10, rtol=0)


def test_sam_restores_every_parameter_bitwise() -> None:
    network, inputs = small_network(), torch.randn(5, 4).double()
    before = [parameter.detach().clone() for parameter in network.parameters()]
    gradients(network, inputs)
    with SharpnessAware(network.parameters(), 0.5).perturbed():
        assert not torch.equal(before[0], next(network.parameters()))
        network[0](inputs).sum().backward()  # the second layer gets no gradient in the second pass
    for parameter, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_non_finite_first_gradient_skips_the_step(bad: float) -> None:
    """One element of one gradient is enough, even though the inputs of the second pass are valid."""
    network, inputs = small_network(), torch.randn(5, 4).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, fused=True)
    before = copy.deepcopy(network.state_dict())
    gradients(network, inputs)
    next(network.parameters()).grad[0, 0] = bad
    with SharpnessAware(network.parameters(), 0.5).perturbed():
        network(inputs).square().sum().backward()
    assert guarded_step(optimizer) == 1
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_sams_second_pass_does_not_change_running_statistics() -> None:
    norm = nn.BatchNorm1d(3)
    norm(torch.randn(8, 3))
    before = copy.deepcopy(norm.state_dict())
    with frozen_statistics(norm):
        batch = torch.randn(8, 3) + 5
        output = norm(batch)
        assert output.mean().abs() < 1e-5  # batch statistics are used as usual
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    norm(torch.randn(8, 3))
    assert not torch.equal(before["running_mean"], norm.running_mean)
