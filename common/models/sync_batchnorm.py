"""Synchronized batch norm: every process normalizes with the statistics of the global batch.

On GPUs this is PyTorch's SyncBatchNorm, whose kernels take the least memory. It selects the processes that have images by a mask,
and so waits for the GPU at every norm. It has no CPU kernel, and torch.compile cannot trace it over several processes (its graph
breaks at every norm); on CPUs (gloo) and in compiled networks a subclass of BatchNorm therefore sums the statistics with a
differentiable all-reduce. Either way N processes with B / N images each compute the same as one process with B images, and the
names in the state dict are unchanged.
"""

import logging

import torch
import torch.distributed as distributed
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from common.distributed import world_size
from common.models.replacement import replace_modules

logger = logging.getLogger(__name__)


class _SumOverProcesses(torch.autograd.Function):
    """Differentiable all-reduce. Each process's loss depends on every input, so gradients are summed as well."""

    @staticmethod
    def forward(_: torch.autograd.function.FunctionCtx, tensor: Tensor) -> Tensor:
        """Return the sum over all processes; the input is unchanged."""
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        """Return the sum of the gradients over the losses of all processes."""
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


class AllReduceBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Normalize (N, C, ...) over the global batch; with one process or in evaluation mode it is plain BatchNorm.

    The variance is computed around the global mean in a second pass, as with one process, and not as a difference of
    squares. Processes may have batches of different sizes.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept the inputs of all of PyTorch's BatchNorms."""
        if input.dim() < 2:
            raise ValueError(f"expected (N, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized input in its dtype; in training mode, update the running statistics."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        self._check_input_dim(input)
        values = input.float()
        dims = [dim for dim in range(input.dim()) if dim != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = torch.full((1,), input.numel() / input.shape[1], dtype=values.dtype, device=values.device)
        total: Tensor = _SumOverProcesses.apply(torch.cat([values.sum(dims), count]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centered = values - mean.reshape(shape)
        variance: Tensor = _SumOverProcesses.apply(centered.square().sum(dims)) / count
        self._update_running_statistics(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        output = centered * scale.reshape(shape)
        if self.affine:
            output = output + self.bias.reshape(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Update the running statistics; without a momentum they are the cumulative average."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += momentum * (mean - self.running_mean)
        self.running_var += momentum * (unbiased_variance - self.running_var)


class AllReduceBatchNormAct(AllReduceBatchNorm):
    """Normalize over all processes, then apply the activation that timm's BatchNormAct2d contains (RegNetY)."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalized and activated input."""
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output


def synchronize_batch_norm(module: nn.Module, *, device_type: str, compiled: bool = False) -> nn.Module:
    """Return the module with every BatchNorm synchronized; parameters and buffers keep their names and identity.

    Call it before wrapping the module in DistributedDataParallel. `device_type` is "cuda" or "cpu"; `compiled`: by torch.compile.
    """
    uses_pytorchs = device_type == "cuda" and not compiled
    has_norms = any(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())
    if has_norms and world_size() > 1:
        waiting = "SyncBatchNorm, which waits for the GPU at every norm (train.compile=true avoids it)"
        method = waiting if uses_pytorchs else "a custom all-reduce, which runs on CPUs and can be compiled"
        logger.info("batch norm: statistics over all %d processes, by %s", world_size(), method)
    if uses_pytorchs:
        # timm's function, because PyTorch's would lose the activations inside BatchNormAct2d
        synchronized: nn.Module = convert_sync_batchnorm(module)
        return synchronized
    return replace_modules(module, _as_all_reduce_batch_norm)


def _as_all_reduce_batch_norm(norm: nn.Module) -> AllReduceBatchNorm | None:
    """Return a AllReduceBatchNorm that shares a BatchNorm's parameters, buffers and activation; None for any other module."""
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or isinstance(norm, AllReduceBatchNorm):
        return None
    with_activation = isinstance(norm, BatchNormAct2d)
    replacement = (AllReduceBatchNormAct if with_activation else AllReduceBatchNorm)(
        norm.num_features,
        eps=norm.eps,
        momentum=norm.momentum,
        affine=norm.affine,
        track_running_stats=norm.track_running_stats,
        device="meta",
    )
    replacement._parameters.update(norm._parameters)
    replacement._buffers.update(norm._buffers)
    replacement._modules.update(norm._modules)
    return replacement.train(norm.training)
