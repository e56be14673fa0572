"""Optimizers: parameter groups (weight decay, layer decay), AdamW and SGD, gradient clipping, skipped steps."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from common.config import Config, default_of
from common.config_messages import VALUE, Otherwise
from common.config_types import NonNegative, Positive
from common.models.layers import REGISTERS, layer_numbers
from common.training.schedules import Schedule, cosine


def _check_betas(betas: tuple[float, float]) -> tuple[float, float]:
    """Return coefficients that lie in [0, 1); raise for others."""
    if not all(0 <= beta < 1 for beta in betas):
        raise PydanticCustomError(VALUE, "must both lie in [0, 1).")
    return betas


_Epochs = Annotated[
    float, Field(ge=0, le=10**6), Otherwise("must not be negative.", too_large="must be at most 1000000.")
]
_LayerDecay = Annotated[
    float, Field(gt=0, le=1), Otherwise("must lie in (0, 1]; 0.65 to 0.85 are usual, 1 turns it off.")
]


class OptimConfig(Config):
    """Optimizer and its schedules."""

    name: Literal["adamw", "sgd", "sam"] = "adamw"
    """Optimizer. `sam` is sharpness-aware minimization: it perturbs the weights first, then steps with `optim.base`."""
    base: Literal["adamw", "sgd"] = "adamw"
    """SAM's base optimizer; read only if `optim.name` is sam."""
    rho: Positive = 0.05
    """SAM's neighborhood size: the L2 norm of its perturbation over all parameters."""
    lr: Positive = 5e-4
    """Peak learning rate; for a batch of `optim.lr_base_batch_size` images if that is set, otherwise absolute."""
    lr_base_batch_size: (
        Annotated[int, Field(gt=0), Otherwise("must be above 0; none makes optim.lr absolute.")] | None
    ) = None
    """Batch size that `optim.lr` refers to; the peak is lr * train.batch_size / lr_base_batch_size (DeiT's program: 512, DINO's:
    256). none = lr is absolute."""
    warmup_epochs: _Epochs = 5.0
    """Linear warm-up of the learning rate, in epochs."""
    warmup_lr: NonNegative = 0.0
    """Learning rate at the first step of the warm-up, absolute or as a fraction of the peak (`optim.relative_ends`)."""
    min_lr: NonNegative = 1e-6
    """Learning rate at the end of the cosine, absolute or as a fraction of the peak (`optim.relative_ends`)."""
    cooldown_epochs: _Epochs = 0.0
    """Last epochs of `train.epochs`, at `optim.min_lr` after the cosine (as in timm; VOLO has 10 after 300)."""
    relative_ends: bool = False
    """Whether `optim.warmup_lr` and `optim.min_lr` are fractions of the peak learning rate, so that they scale with it."""
    weight_decay: NonNegative = 0.05
    """Decoupled weight decay (AdamW) or L2 penalty (SGD) at the first step."""
    weight_decay_end: (
        Annotated[float, Field(ge=0), Otherwise("must not be negative; none keeps the decay constant.")] | None
    ) = None
    """Weight decay at the last step, reached on a cosine schedule; none = constant."""
    decay_embeddings: bool = True
    """Whether weight decay applies to the class token, registers and the position embedding (DINO: yes, DeiT: no)."""
    decay_bias_and_norm: bool = False
    """Whether weight decay applies to biases and 1-D parameters, such as those of norms (pycls: yes)."""
    layer_decay: _LayerDecay = 1.0
    """Layer-wise learning rate decay: factor from each layer to the previous one; 1 = the same rate everywhere. The classifier, or
    DINO's head, is the last layer."""
    betas: Annotated[tuple[float, float], AfterValidator(_check_betas)] = (0.9, 0.999)
    """AdamW's averaging coefficients."""
    eps: NonNegative = 1e-8
    """AdamW's epsilon, added to the denominator."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD's momentum; read only for SGD."""
    nesterov: bool = False
    """Whether SGD uses Nesterov momentum (pycls: yes); read only for SGD."""
    clip_grad: Annotated[float, Field(gt=0), Otherwise("must be above 0; none turns clipping off.")] | None = None
    """Maximum L2 norm of the gradients; none = no clipping."""
    clip_per_parameter: bool = False
    """Whether each parameter's gradient is clipped separately (DINO), or all by their global norm."""

    @property
    def base_name(self) -> Literal["adamw", "sgd"]:
        """Return the name of the optimizer that takes the steps: SAM's base, or the optimizer itself."""
        return self.base if self.name == "sam" else self.name

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.base_name == "sgd" and self.nesterov and not self.momentum:
            yield "nesterov", "true, and momentum is 0: Nesterov needs momentum. Set momentum, or remove the key."
        if self.clip_per_parameter and self.clip_grad is None:
            yield (
                "clip_per_parameter",
                "true, and clip_grad is none: nothing is clipped. Set clip_grad, or remove the key.",
            )
        for name in ("warmup_lr", "min_lr"):
            if self.relative_ends and getattr(self, name) > 1:
                yield name, f"{getattr(self, name)} must be at most 1: with relative_ends it is a fraction of the peak."


def peak_lr(config: OptimConfig, batch_size: int) -> float:
    """Return the absolute peak learning rate for a global batch."""
    return config.lr * batch_size / config.lr_base_batch_size if config.lr_base_batch_size else config.lr


_READ_BY = {"momentum": "sgd", "base": "sam", "rho": "sam"}
"""Keys that a single optimizer reads. (`nesterov` stays in recipes whose studies compare optimizers.)"""


def optimizer_warnings(config: OptimConfig, epochs: int, *, batch_size: int) -> Iterator[str]:
    """Yield a warning for keys that the optimizer does not read, and for schedules that do not do what they seem to."""
    for key, reader in _READ_BY.items():
        value = vars(config)[key]  # not an attribute: tests see which keys a run reads
        if reader not in (config.name, config.base_name) and value != default_of(OptimConfig, key):
            yield (
                f"optim.{key} = {value}: has no effect, since optim.name is {config.name}. Set optim.name={reader}, or remove"
                " the key."
            )
    yield from _schedule_warnings(config, epochs, batch_size=batch_size)


def _schedule_warnings(config: OptimConfig, epochs: int, *, batch_size: int) -> Iterator[str]:
    """Yield a warning if warm-up and cool-down leave no epochs for the cosine, and for each end of it above the peak."""
    warmup, cooldown = config.warmup_epochs, config.cooldown_epochs
    if warmup >= epochs and warmup > 0:
        yield (
            f"optim.warmup_epochs = {warmup:g} is not less than train.epochs = {epochs}: the learning rate does not reach its "
            f"peak before the end. Try {epochs / 10:g}."
        )
    elif cooldown and warmup + cooldown >= epochs:
        yield (
            f"optim.warmup_epochs = {warmup:g} and optim.cooldown_epochs = {cooldown:g} leave none of train.epochs = {epochs} for "
            f"the cosine: the learning rate drops from its peak to its end in one step. Try optim.cooldown_epochs={epochs / 30:g}."
        )
    peak = peak_lr(config, batch_size)
    ends = {"warmup_lr": "falls during the warm-up"} if warmup else {}
    if warmup + cooldown < epochs:
        ends["min_lr"] = "rises to its end"
    for name, effect in ends.items():
        if not config.relative_ends and getattr(config, name) > peak:
            yield (
                f"optim.{name} = {getattr(config, name):g} is above the peak, {peak:.3g}: the learning rate {effect}. "
                f"Try {peak / 100:.2g}."
            )


def learning_rates(config: OptimConfig, *, batch_size: int, steps: int, steps_per_epoch: int) -> Schedule:
    """Return the learning rate of every step."""
    peak = peak_lr(config, batch_size)
    unit = peak if config.relative_ends else 1.0
    return cosine(
        peak,
        config.min_lr * unit,
        steps=steps,
        warmup_steps=round(config.warmup_epochs * steps_per_epoch),
        warmup_start=config.warmup_lr * unit,
        cooldown_steps=round(config.cooldown_epochs * steps_per_epoch),
    )


def weight_decays(config: OptimConfig, *, steps: int) -> Schedule:
    """Return the weight decay of every step."""
    end = config.weight_decay if config.weight_decay_end is None else config.weight_decay_end
    return cosine(config.weight_decay, end, steps=steps)


def optimizer_schedules(
    config: OptimConfig, *, batch_size: int, epochs: int, steps_per_epoch: int
) -> dict[str, Schedule]:
    """Return the schedules that `set_step` takes at every step of a run of `epochs` epochs."""
    steps = epochs * steps_per_epoch
    rates = learning_rates(config, batch_size=batch_size, steps=steps, steps_per_epoch=steps_per_epoch)
    return {"learning rate": rates, "weight decay": weight_decays(config, steps=steps)}


def build_optimizer(config: OptimConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer over the parameters of `model` that require a gradient; for SAM, its base optimizer."""
    groups = parameter_groups(
        model,
        layer_decay=config.layer_decay,
        decay_embeddings=config.decay_embeddings,
        decay_bias_and_norm=config.decay_bias_and_norm,
    )
    if config.base_name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
    optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    if config.momentum:
        # The fused kernel leaves the buffer uninitialized if the first step is skipped; momentum * 0 + g is the same first step.
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def parameter_groups(
    model: nn.Module, *, layer_decay: float, decay_embeddings: bool, decay_bias_and_norm: bool = False
) -> list[dict[str, object]]:
    """Return parameter groups with `lr_scale` and `decayed`.

    By default, weight decay does not apply to biases and 1-D parameters; with `decay_embeddings` false, also not to the parameters
    that the network exempts (`no_weight_decay()`: class token, registers, position embedding). With L layers as the network's
    `group_matcher` counts them, layer l has lr_scale = layer_decay ** (L - 1 - l); the stem is layer 0, the classifier or DINO's
    head the last. Frozen parameters are in no group.
    """
    exempt: set[str] = set() if decay_embeddings else _exempt(model)
    layer_of = layer_numbers(model) if layer_decay < 1 else {}
    deepest = max(layer_of.values(), default=0)
    groups: dict[tuple[int, bool], dict[str, object]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_bias_or_norm = parameter.ndim <= 1 or name.endswith(".bias")
        decayed = name not in exempt and (decay_bias_and_norm or not is_bias_or_norm)
        layer = layer_of.get(name, deepest)
        group = groups.setdefault(
            (layer, decayed), {"params": [], "lr_scale": layer_decay ** (deepest - layer), "decayed": decayed}
        )
        group["params"].append(parameter)  # type: ignore[attr-defined]
    return list(groups.values())


def _exempt(model: nn.Module) -> set[str]:
    """Return the names in `model` of the parameters that it or a network in it exempts from weight decay.

    Registers are exempt as the class token is, which timm's networks do not say in all of its versions.
    """
    return {
        f"{prefix}.{name}".removeprefix(".")
        for prefix, network in model.named_modules()
        if hasattr(network, "no_weight_decay")
        for name in (*network.no_weight_decay(), REGISTERS)
    }


def set_step(optimizer: torch.optim.Optimizer, lr: float, weight_decay: float) -> None:
    """Set the learning rate (scaled by layer) and the weight decay of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
        group["weight_decay"] = weight_decay if group["decayed"] else 0.0


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float, *, per_parameter: bool) -> Tensor:
    """Clip gradients to `max_norm`, `per_parameter` or all by their global norm; return the norm(s) before clipping.

    Per parameter (DINO): g <- g * min(1, max_norm / (||g|| + 1e-6)) for every parameter; on a GPU the norms take one
    fused operation, the products a launch each.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    total = norms if per_parameter else torch.linalg.vector_norm(norms)
    factors = (max_norm / (total + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, list(factors.unbind()) if per_parameter else factors)
    return total


def guarded_step(optimizer: torch.optim.Optimizer) -> Tensor:
    """Step unless a gradient is not finite, without synchronizing; return 1.0, on the device, if the step was skipped.

    The flag is passed to the fused kernel, which then leaves weights and moments unchanged. Under fp16 the gradient scaler checks
    the gradients itself and skips the step; this is normal, so divergence detection must tolerate some skipped steps.
    """
    wrapped: Any = getattr(optimizer, "optimizer", optimizer)
    parameters = (parameter for group in wrapped.param_groups for parameter in group["params"])
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    skipped = 1.0 - torch.isfinite(torch.stack(torch._foreach_norm(gradients)).sum()).float()
    if getattr(optimizer, "scaler", None) is not None:
        optimizer.step()
        return skipped
    wrapped.grad_scale, wrapped.found_inf = None, skipped
    optimizer.step()
    return skipped
