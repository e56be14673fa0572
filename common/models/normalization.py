"""Owns batch normalisation over several processes: every process normalises with the statistics of the whole batch.

On GPUs PyTorch's SyncBatchNorm does it. It has no CPU kernel, so on CPU processes (gloo) a subclass of BatchNorm sums
the statistics itself, by an all-reduce that is differentiated. Either way N processes with B / N images each compute
what one process computes with B images, and the names in the state dict stay.
"""

import logging

import torch
import torch.distributed as distributed
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from common.models.replacement import replace_modules

logger = logging.getLogger(__name__)


class _SumOverProcesses(torch.autograd.Function):
    """Sum a tensor over all processes. Each process's loss depends on every input, so gradients are summed as well."""

    @staticmethod
    def forward(_: torch.autograd.function.FunctionCtx, tensor: Tensor) -> Tensor:
        """Return the sum; the input is left as it is."""
        total = tensor.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        """Return the sum of the gradients of all processes' losses."""
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


class ProcessBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Normalise (N, C, ...) over the batch of all processes; alone or in evaluation mode it is plain BatchNorm.

    The variance is taken about the common mean in a second pass, as one process does, and not as a difference of
    squares. Processes may hold batches of different sizes.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what any of PyTorch's BatchNorms takes."""
        if input.dim() < 2:
            raise ValueError(f"expected (N, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input, in its own dtype; in training update the running statistics."""
        together = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
        if not (self.training and together):
            return super().forward(input)
        self._check_input_dim(input)
        values = input.float()
        over = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = torch.full((1,), input.numel() / input.shape[1], dtype=values.dtype, device=values.device)
        total: Tensor = _SumOverProcesses.apply(torch.cat([values.sum(over), count]))
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = values - mean.reshape(shape)
        variance: Tensor = _SumOverProcesses.apply(centred.square().sum(over)) / count
        self._update_running_statistics(mean.detach(), variance.detach() * count / (count - 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.affine:
            scale = scale * self.weight
        output = centred * scale.reshape(shape)
        if self.affine:
            output = output + self.bias.reshape(shape)
        return output.to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        """Move the running statistics towards the batch's; without a momentum they are its plain average so far."""
        if not self.track_running_stats:
            return
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += momentum * (mean - self.running_mean)
        self.running_var += momentum * (unbiased_variance - self.running_var)


class ProcessBatchNormAct(ProcessBatchNorm):
    """Normalise over all processes, then apply the activation that timm keeps inside its BatchNormAct2d (RegNetY)."""

    drop: nn.Module
    act: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised and activated input."""
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output


def synchronise_batch_norm(module: nn.Module, *, device_type: str) -> nn.Module:
    """Return the module with every BatchNorm over all processes; parameters and buffers are kept, by name and identity.

    Call it before the module is wrapped in DistributedDataParallel. `device_type` is "cuda" or "cpu".
    """
    norms = any(isinstance(child, nn.modules.batchnorm._BatchNorm) for child in module.modules())
    if norms and distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        way = "SyncBatchNorm" if device_type == "cuda" else "an all-reduce of our own: SyncBatchNorm has no CPU kernel"
        logger.info("batch norm: statistics over all %d processes, by %s", distributed.get_world_size(), way)
    if device_type == "cuda":
        # timm's, for PyTorch's own would lose the activations inside BatchNormAct2d
        synchronised: nn.Module = convert_sync_batchnorm(module)
        return synchronised
    return replace_modules(module, _as_process_batch_norm)


def _as_process_batch_norm(norm: nn.Module) -> ProcessBatchNorm | None:
    """Return a ProcessBatchNorm that holds the very parameters, buffers and activation of a BatchNorm; None for all else."""
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or isinstance(norm, ProcessBatchNorm):
        return None
    with_activation = isinstance(norm, BatchNormAct2d)
    replacement = (ProcessBatchNormAct if with_activation else ProcessBatchNorm)(
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
