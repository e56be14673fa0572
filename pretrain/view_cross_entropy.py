"""Owns DINO's cross-entropy from the head's bottleneck on: the scores over all codes stand for one view at a time.

With 65,536 codes the scores of ten views of 64 images would fill 170 MB in fp32, and autograd would keep them several
times over. Here a view's scores are computed, used and dropped; the backward pass computes them once more, one product
more with the last layer's weights. Only their gradients stand all at once, in the type of the product.
Shapes: V views, the first G of which the teacher has seen too, B images, D width of the bottleneck, K codes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear


def wide(scores: Tensor) -> Tensor:
    """Return scores in fp32, or as they are where they are finer."""
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def score_terms(scores_BK: Tensor, targets_BK: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return logsumexp(z) (B,) and <targets, z> (B,) for z = scores / temperature."""
    scaled = wide(scores_BK) / temperature
    return torch.logsumexp(scaled, dim=-1), torch.linalg.vecdot(targets_BK, scaled)


def score_gradients(
    scores_BK: Tensor, lse_B: Tensor, targets_BK: Tensor, factor: Tensor, temperature: float, share: int
) -> Tensor:
    """Return (share * softmax(scores / temperature) - targets) * factor (B, K), in the type of the scores."""
    probabilities = torch.exp(wide(scores_BK) / temperature - lse_B[:, None])
    return ((share * probabilities - targets_BK) * factor).to(scores_BK.dtype)


@dataclass(frozen=True)
class Kernels:
    """What is done to the scores of one view, as functions that may be compiled."""

    terms: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]] = score_terms
    gradients: Callable[[Tensor, Tensor, Tensor, Tensor, float, int], Tensor] = score_gradients


def compiled_kernels() -> Kernels:
    """Return kernels that read and write the scores once each."""
    return Kernels(torch.compile(score_terms, dynamic=False), torch.compile(score_gradients, dynamic=False))


def view_losses(
    bottleneck_VBD: Tensor,
    weight_KD: Tensor,
    q_GBK: Tensor,
    *,
    temperature: float,
    dtype: torch.dtype,
    kernels: Kernels,
) -> Tensor:
    """Return for each view j (V,) the mean over images of sum_{i < G, i != j} H(q_i, softmax(scores_j / temperature)).

    scores = bottleneck @ weight.T, computed in `dtype`; all else in fp32 at least. H is linear in q: with
    T_j = sum_{i != j} q_i, sum_i H(q_i, p_j) = (sum_k T_j) * logsumexp(z_j) - <T_j, z_j>, for z_j = scores_j / temperature.
    """
    losses: Tensor = _ViewLosses.apply(bottleneck_VBD, weight_KD, q_GBK, temperature, dtype, kernels)
    return losses


class _ViewLosses(torch.autograd.Function):
    """The losses of `view_losses`, and their gradients with the scores computed anew."""

    @staticmethod
    def forward(
        ctx: Any,
        bottleneck_VBD: Tensor,
        weight_KD: Tensor,
        q_GBK: Tensor,
        temperature: float,
        dtype: torch.dtype,
        kernels: Kernels,
    ) -> Tensor:
        """Return the losses (V,); keep of each view the images' logsumexp alone."""
        bottleneck, weight, total = bottleneck_VBD.to(dtype), weight_KD.to(dtype), q_GBK.sum(0)
        losses, normalisers = [], []
        for view, features in enumerate(bottleneck):
            scores = _product(features, weight)
            lse, match = kernels.terms(scores, _targets(total, q_GBK, view), temperature)
            losses.append((_weight(len(q_GBK), view) * lse - match).mean())
            normalisers.append(lse)
        ctx.save_for_backward(bottleneck, weight, q_GBK, torch.stack(normalisers))
        ctx.temperature, ctx.kernels = temperature, kernels
        ctx.dtypes = bottleneck_VBD.dtype, weight_KD.dtype
        return torch.stack(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        """Return the gradients of bottleneck and weight: dz = (p * sum_k T - T) * gradient / (temperature * B)."""
        bottleneck, weight, q_GBK, normalisers = ctx.saved_tensors
        total, (gradient_V,) = q_GBK.sum(0), gradients
        factors_V = gradient_V.to(normalisers.dtype) / (ctx.temperature * bottleneck.shape[1])
        of_scores = bottleneck.new_empty((*bottleneck.shape[:2], len(weight)))
        for view, (features, lse) in enumerate(zip(bottleneck, normalisers, strict=True)):
            scores = _product(features, weight)
            targets, share = _targets(total, q_GBK, view), _weight(len(q_GBK), view)
            of_scores[view] = ctx.kernels.gradients(scores, lse, targets, factors_V[view], ctx.temperature, share)
        # One product for all views: a sum over views of gradients as large as the weights would cost more than they do.
        with torch.autocast(weight.device.type, enabled=False):
            of_bottleneck = of_scores @ weight
            of_weight = of_scores.flatten(0, 1).T @ bottleneck.flatten(0, 1)
        bottleneck_dtype, weight_dtype = ctx.dtypes
        return of_bottleneck.to(bottleneck_dtype), of_weight.to(weight_dtype), None, None, None, None


def _targets(total_BK: Tensor, q_GBK: Tensor, view: int) -> Tensor:
    """Return the sum of the teacher's distributions over its views other than this one."""
    return total_BK - q_GBK[view] if view < len(q_GBK) else total_BK


def _weight(num_teacher: int, view: int) -> int:
    """Return what a view's targets sum to: the number of teacher views other than it."""
    return num_teacher - 1 if view < num_teacher else num_teacher


def _product(features_BD: Tensor, weight_KD: Tensor) -> Tensor:
    """Return the scores (B, K) in the type that both come in."""
    with torch.autocast(weight_KD.device.type, enabled=False):
        return linear(features_BD, weight_KD)
