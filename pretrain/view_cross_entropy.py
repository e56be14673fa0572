"""Memory-efficient DINO cross-entropy: materializes the logits over all prototypes for one view at a time.

With 65,536 prototypes the logits of ten views of 64 images take 170 MB in fp32, and autograd would store several copies. Here
the logits of a view are computed, used and freed; the backward pass recomputes them, at the cost of one more product with the last
layer's weights. Only their gradients are held for all views at once, in the dtype of the product.
Shapes: V views, of which the first G are the teacher's, B images, D bottleneck dimension, K prototypes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


def at_least_float32(logits: Tensor) -> Tensor:
    """Return the logits in fp32, or in their own dtype if it is wider."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def logit_terms(logits_BK: Tensor, targets_BK: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return logsumexp(z) (B,) and <targets, z> (B,) for z = logits / temperature, in at least fp32."""
    scaled = at_least_float32(logits_BK) / temperature
    with torch.autocast(scaled.device.type, enabled=False):  # which would compute the products in bf16 or fp16
        return torch.logsumexp(scaled, dim=-1), torch.linalg.vecdot(targets_BK, scaled)


def logit_gradients(
    logits_BK: Tensor, lse_B: Tensor, targets_BK: Tensor, factor: Tensor, temperature: float, target_sum: int
) -> Tensor:
    """Return (target_sum * softmax(logits / temperature) - targets) * factor (B, K), in the dtype of the logits."""
    probabilities = torch.exp(at_least_float32(logits_BK) / temperature - lse_B[:, None])
    return ((target_sum * probabilities - targets_BK) * factor).to(logits_BK.dtype)


@dataclass(frozen=True)
class LogitFunctions:
    """Functions of one view's logits, replaceable by their compiled versions."""

    terms: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]] = logit_terms
    gradients: Callable[[Tensor, Tensor, Tensor, Tensor, float, int], Tensor] = logit_gradients


def compiled_functions() -> LogitFunctions:
    """Return compiled functions that read and write the logits once each."""
    return LogitFunctions(torch.compile(logit_terms, dynamic=False), torch.compile(logit_gradients, dynamic=False))


def view_losses(
    bottleneck_VBD: Tensor,
    weight_KD: Tensor,
    q_GBK: Tensor,
    *,
    temperature: float,
    dtype: torch.dtype,
    functions: LogitFunctions,
) -> Tensor:
    """Return for each view j (V,) the mean over images of sum_{i < G, i != j} H(q_i, softmax(logits_j / temperature)).

    logits = bottleneck @ weight.T, computed in `dtype`; everything else in at least fp32. H is linear in q: with
    T_j = sum_{i != j} q_i, sum_i H(q_i, p_j) = (sum_k T_j) * logsumexp(z_j) - <T_j, z_j>, for z_j = logits_j / temperature.
    """
    losses: Tensor = _ViewLosses.apply(bottleneck_VBD, weight_KD, q_GBK, temperature, dtype, functions)
    return losses


class _ViewLosses(torch.autograd.Function):
    """The losses of `view_losses` and their gradients, with recomputed logits."""

    @staticmethod
    def forward(
        ctx: Any,
        bottleneck_VBD: Tensor,
        weight_KD: Tensor,
        q_GBK: Tensor,
        temperature: float,
        dtype: torch.dtype,
        functions: LogitFunctions,
    ) -> Tensor:
        """Return the losses (V,); save only the logsumexp of each view and image for backward."""
        bottleneck, weight, total = bottleneck_VBD.to(dtype), weight_KD.to(dtype), q_GBK.sum(0)
        losses, normalizers = [], []
        for view, features in enumerate(bottleneck):
            logits = _logits(features, weight)
            lse, match = functions.terms(logits, _targets(total, q_GBK, view), temperature)
            losses.append((_target_sum(len(q_GBK), view) * lse - match).mean())
            normalizers.append(lse)
        ctx.save_for_backward(bottleneck, weight, q_GBK, torch.stack(normalizers))
        ctx.temperature, ctx.functions = temperature, functions
        ctx.dtypes = bottleneck_VBD.dtype, weight_KD.dtype
        return torch.stack(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        """Return the gradients with respect to bottleneck and weight: dz = (p * sum_k T - T) * gradient / (temperature * B)."""
        bottleneck, weight, q_GBK, normalizers = ctx.saved_tensors
        total, (gradient_V,) = q_GBK.sum(0), gradients
        factors_V = gradient_V.to(normalizers.dtype) / (ctx.temperature * bottleneck.shape[1])
        logit_gradients_VBK = bottleneck.new_empty((*bottleneck.shape[:2], len(weight)))
        for view, (features, lse) in enumerate(zip(bottleneck, normalizers, strict=True)):
            logits = _logits(features, weight)
            targets, target_sum = _targets(total, q_GBK, view), _target_sum(len(q_GBK), view)
            logit_gradients_VBK[view] = ctx.functions.gradients(
                logits, lse, targets, factors_V[view], ctx.temperature, target_sum
            )
        # One product for all views: summing per-view gradients of the size of the weights would cost more than the products.
        with torch.autocast(weight.device.type, enabled=False):
            bottleneck_gradient = logit_gradients_VBK @ weight
            weight_gradient = logit_gradients_VBK.flatten(0, 1).T @ bottleneck.flatten(0, 1)
        bottleneck_dtype, weight_dtype = ctx.dtypes
        return bottleneck_gradient.to(bottleneck_dtype), weight_gradient.to(weight_dtype), None, None, None, None


def _targets(total_BK: Tensor, q_GBK: Tensor, view: int) -> Tensor:
    """Return the sum (B, K) of the teacher's distributions over its views other than `view`."""
    return total_BK - q_GBK[view] if view < len(q_GBK) else total_BK


def _target_sum(num_teacher: int, view: int) -> int:
    """Return the sum of a view's targets: the number of teacher views other than it."""
    return num_teacher - 1 if view < num_teacher else num_teacher


def _logits(features_BD: Tensor, weight_KD: Tensor) -> Tensor:
    """Return the logits (B, K) in the dtype of the inputs, outside autocast."""
    with torch.autocast(weight_KD.device.type, enabled=False):
        return linear(features_BD, weight_KD)
