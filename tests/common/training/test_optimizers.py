"""Tests of parameter groups, gradient clipping, schedules and the guarded step, each against a reference by hand."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import problems_of
from small_networks import gradients, small_network
from torch import nn

from common.models.networks import ModelConfig, build_network
from common.training.optimizers import (
    OptimConfig,
    build_optimizer,
    clip_gradients,
    guarded_step,
    learning_rates,
    optimizer_warnings,
    parameter_groups,
    peak_lr,
    set_step,
)


def test_clipping_each_parameter_matches_the_loop() -> None:
    network = small_network()
    grads = gradients(network, 10 * torch.randn(5, 4).double())
    clip_gradients(network.parameters(), 0.3, per_parameter=True)
    for parameter, gradient in zip(network.parameters(), grads, strict=True):
        factor = min(1.0, 0.3 / (gradient.norm().item() + 1e-6))
        assert torch.allclose(parameter.grad, gradient * factor, atol=1e-12)


def test_clipping_by_the_global_norm_matches_torch() -> None:
    network = small_network()
    gradients(network, 10 * torch.randn(5, 4).double())
    twin = copy.deepcopy(network)
    for copied, parameter in zip(twin.parameters(), network.parameters(), strict=True):
        copied.grad = parameter.grad.clone()
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.3)
    clip_gradients(network.parameters(), 0.3, per_parameter=False)
    for parameter, expected in zip(network.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(parameter.grad, expected.grad, atol=1e-9)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("first", [True, False])
def test_a_non_finite_gradient_changes_neither_weights_nor_moments(name: str, first: bool) -> None:
    network = small_network().float()
    optimizer = build_optimizer(OptimConfig(name=name, lr=0.1), network)
    reference = copy.deepcopy(network)
    reference_optimizer = build_optimizer(OptimConfig(name=name, lr=0.1), reference)
    inputs = torch.randn(5, 4)

    def step(model: nn.Module, its_optimizer: torch.optim.Optimizer) -> float:
        gradients(model, inputs)
        return guarded_step(its_optimizer).item()

    if not first:
        assert step(network, optimizer) == step(reference, reference_optimizer) == 0.0
    gradients(network, torch.full((2, 4), torch.inf))
    assert guarded_step(optimizer).item() == 1.0
    for _ in range(2):
        assert step(network, optimizer) == step(reference, reference_optimizer) == 0.0
    for parameter, expected in zip(network.parameters(), reference.parameters(), strict=True):
        assert torch.equal(parameter, expected)


def test_a_step_that_the_gradient_scaler_skips_is_reported() -> None:
    weight, scaler = nn.Parameter(torch.ones(3)), torch.amp.GradScaler("cpu")
    base = torch.optim.SGD([weight], lr=0.1, fused=True)
    # The interface of accelerate's optimizer under fp16.
    wrapped: Any = SimpleNamespace(
        optimizer=base, scaler=scaler, step=lambda: (scaler.step(base), scaler.update()), zero_grad=base.zero_grad
    )
    for factor, skipped in ((1.0, 0.0), (torch.inf, 1.0), (1.0, 0.0)):
        before = weight.detach().clone()
        wrapped.zero_grad()
        scaler.scale((weight * factor).sum()).backward()
        assert guarded_step(wrapped).item() == skipped
        assert torch.equal(weight, before) == bool(skipped)


def test_biases_and_1d_parameters_are_not_decayed_and_embeddings_are_optional() -> None:
    network = build_network(ModelConfig(name="vit_mini", stem="conv"), image_size=16, num_classes=5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}

    def decayed(decay_embeddings: bool) -> set[str]:
        groups = parameter_groups(network, layer_decay=1.0, decay_embeddings=decay_embeddings)
        assert sum(len(group["params"]) for group in groups) == len(names)
        return {names[id(p)] for group in groups if group["decayed"] for p in group["params"]}

    dino, deit = decayed(True), decayed(False)
    assert dino - deit == {"cls_token", "pos_embed"}
    assert not any(name.endswith("bias") or "norm" in name for name in dino)


@pytest.mark.parametrize(("decay_embeddings", "exempt"), [(True, set()), (False, {"cls_token", "pos_embed"})])
def test_biases_and_norms_are_decayed_with_decay_bias_and_norm(decay_embeddings: bool, exempt: set[str]) -> None:
    """As in pycls: every parameter, except those that the network exempts if embeddings are not decayed."""
    network = build_network(ModelConfig(name="vit_mini", stem="conv"), image_size=16, num_classes=5)
    config = OptimConfig(decay_bias_and_norm=True, decay_embeddings=decay_embeddings)
    optimizer = build_optimizer(config, network)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["decayed"] for p in group["params"]}
    assert set(names.values()) - decayed == exempt


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_matches_its_formula(nesterov: bool) -> None:
    """v <- m v + g + d w;  w <- w - lr v, or with Nesterov momentum w <- w - lr (g + d w + m v)."""
    network, inputs = small_network().float(), torch.randn(5, 4)
    optimizer = build_optimizer(OptimConfig(name="sgd", momentum=0.9, nesterov=nesterov), network)
    weights = [p.detach().clone() for p in network.parameters()]
    velocities = [torch.zeros_like(w) for w in weights]
    for _ in range(4):
        set_step(optimizer, 0.02, 0.1)
        for w, v, g in zip(weights, velocities, gradients(network, inputs), strict=True):
            decayed = g + 0.1 * w if w.ndim > 1 else g
            v.mul_(0.9).add_(decayed)
            w.sub_(0.02 * (decayed + 0.9 * v if nesterov else v))
        guarded_step(optimizer)
    for parameter, expected in zip(network.parameters(), weights, strict=True):
        assert torch.allclose(parameter, expected, atol=1e-6)


def test_nesterov_without_momentum_is_rejected() -> None:
    for one in ({"name": "sgd"}, {"name": "sam", "base": "sgd"}):
        assert problems_of(OptimConfig, **one, nesterov=True, momentum=0.0).keys() == {"nesterov"}
    for one in ({"name": "adamw"}, {"name": "sam", "base": "adamw"}):
        assert not problems_of(OptimConfig, **one, nesterov=True, momentum=0.0)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "warning"),
    [
        (0, 0, None),
        (5, 0, None),
        (5, 24, None),
        (0, 29, None),
        (30, 0, "optim.warmup_epochs = 30 is not less than train.epochs = 30"),
        (40, 10, "optim.warmup_epochs = 40 is not less"),
        (5, 25, "optim.warmup_epochs = 5 and optim.cooldown_epochs = 25 leave none of train.epochs = 30"),
        (0, 50, "optim.cooldown_epochs = 50 leave none"),
    ],
)
def test_warmup_and_cooldown_that_leave_no_cosine_are_warned_about(
    warmup: float, cooldown: float, warning: str | None
) -> None:
    warnings = list(optimizer_warnings(OptimConfig(warmup_epochs=warmup, cooldown_epochs=cooldown), 30, batch_size=64))
    assert warnings == [] if warning is None else len(warnings) == 1 and warning in warnings[0]


@pytest.mark.parametrize(
    ("settings", "warnings"),
    [
        ({"lr": 1e-6, "min_lr": 1e-6, "warmup_lr": 1e-6}, []),
        (
            {"lr": 1e-7},
            ["optim.min_lr = 1e-06 is above the peak, 1e-07: the learning rate rises to its end. Try 1e-09."],
        ),
        ({"lr": 2e-6, "lr_base_batch_size": 256}, ["optim.min_lr = 1e-06 is above the peak, 5e-07"]),
        ({"lr": 1e-7, "min_lr": 1.0, "relative_ends": True}, []),
        ({"warmup_lr": 0.1}, ["optim.warmup_lr = 0.1 is above the peak, 0.0005: the learning rate falls during the"]),
        ({"warmup_lr": 0.1, "warmup_epochs": 0}, []),
    ],
)
def test_ends_of_the_learning_rate_above_its_peak_are_warned_about(
    settings: dict[str, Any], warnings: list[str]
) -> None:
    found = list(optimizer_warnings(OptimConfig(**settings), 30, batch_size=64))
    assert len(found) == len(warnings) and all(map(str.startswith, found, warnings))


def test_layer_decay_decreases_from_the_classifier_to_the_stem() -> None:
    network = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, layer_decay=0.5, decay_embeddings=False)
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    depth = 4
    assert scale["head.weight"] == 1.0
    assert scale["blocks.3.mlp.fc1.weight"] == 0.5
    assert scale["blocks.0.mlp.fc1.weight"] == 0.5**depth
    assert scale["patch_embed.proj.weight"] == scale["pos_embed"] == 0.5 ** (depth + 1)


def test_set_step_scales_by_layer_and_exempts_undecayed_groups() -> None:
    network = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=5)
    optimizer = build_optimizer(OptimConfig(layer_decay=0.5), network)
    set_step(optimizer, 0.2, 0.05)
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.2 * group["lr_scale"])
        assert group["weight_decay"] == (0.05 if group["decayed"] else 0.0)


def test_the_peak_rate_scales_with_the_batch_size_if_lr_base_batch_size_is_set() -> None:
    assert peak_lr(OptimConfig(lr=1e-3), 4096) == 1e-3
    assert peak_lr(OptimConfig(lr=5e-4, lr_base_batch_size=256), 1024) == pytest.approx(2e-3)


def test_the_cooldown_is_the_end_of_the_run_at_the_minimum_rate() -> None:
    config = OptimConfig(lr=0.4, min_lr=0.01, warmup_epochs=2, cooldown_epochs=10)
    rates = learning_rates(config, batch_size=32, steps=3100, steps_per_epoch=10)
    without = learning_rates(
        OptimConfig(lr=0.4, min_lr=0.01, warmup_epochs=2), batch_size=32, steps=3000, steps_per_epoch=10
    )
    assert (rates[:3000] == without).all() and (rates[3000:] == 0.01).all() and len(rates) == 3100


def test_the_ends_of_the_schedule_are_absolute_or_fractions_of_the_peak() -> None:
    ends = {"warmup_lr": 0.01, "min_lr": 0.002, "warmup_epochs": 1}
    absolute, relative = (
        learning_rates(
            OptimConfig(lr=0.4, lr_base_batch_size=32, relative_ends=is_relative, **ends),
            batch_size=64,
            steps=1000,
            steps_per_epoch=10,
        )
        for is_relative in (False, True)
    )
    assert (absolute[0], absolute[9], absolute[-1]) == pytest.approx((0.01, 0.8, 0.002), rel=1e-2)
    assert (relative[0], relative[9], relative[-1]) == pytest.approx((0.008, 0.8, 0.0016), rel=1e-2)


def test_layer_decay_of_dino_ends_at_the_head_and_counts_the_students_blocks() -> None:
    student = build_network(ModelConfig(name="vit_mini", stem="conv"), image_size=16, num_classes=0)
    model = torch.nn.ModuleList([student, torch.nn.Linear(64, 8)])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, layer_decay=0.5, decay_embeddings=True)
    scale = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    assert scale.keys() == set(names.values())
    assert scale["1.weight"] == scale["1.bias"] == 1.0
    assert scale["0.blocks.3.mlp.fc1.weight"] == scale["0.norm.weight"] == 0.5
    assert scale["0.blocks.0.attn.qkv.weight"] == 0.5**4
    assert scale["0.patch_embed.conv.0.weight"] == scale["0.cls_token"] == 0.5**5


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"momentum": 0.5}, "momentum"),
        ({"name": "sam", "momentum": 0.5}, "momentum"),
        ({"name": "sam", "base": "sgd", "momentum": 0.5}, None),
        ({"name": "sgd", "momentum": 0.5, "nesterov": True}, None),
        ({"rho": 0.1}, "rho"),
        ({"name": "sgd", "base": "sgd"}, "base"),
        ({"name": "sam", "rho": 0.1}, None),
    ],
)
def test_keys_that_the_optimizer_does_not_read_are_warned_of(settings: dict[str, Any], key: str | None) -> None:
    found = list(optimizer_warnings(OptimConfig(**settings), 30, batch_size=64))
    assert [text.partition(" ")[0] for text in found] == ([] if key is None else [f"optim.{key}"])
