"""How a step is computed, with the same result up to rounding: kernels, torch.compile, activation checkpointing."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import set_reentrant_ckpt
from torch import nn

from common.errors import UserError
from common.models.class_token import use_class_token_only
from common.models.kernels.attention import as_kernel_attention
from common.models.kernels.gelu import as_kernel_gelu, as_kernel_mlp
from common.models.kernels.library import kernels_available
from common.models.replacement import replace_modules
from common.models.stem import Stem
from common.training.compilers import check_compiler, check_triton
from common.training.config import TrainConfig


def configure_execution(network: nn.Module, train: TrainConfig, device: torch.device) -> None:
    """Select kernels and layouts for the device, torch.compile and activation checkpointing; names and weights are unchanged.

    Raise UserError for `train.class_token_only` with a network that pools other tokens, for `train.compile` or `train.kernels`
    without the compilers that they need, for `train.kernels` on a GPU or on a CPU without bf16 matrix multiplication, and for
    `train.grad_checkpointing` with batch norm in the blocks.
    """
    on_cpu = device.type == "cpu"
    if train.class_token_only:
        use_class_token_only(getattr(network, "backbone", network))  # re-identification has more behind its backbone
    if train.precision in ("bf16", "fp16") if on_cpu else train.deterministic:
        disable_fused_attention(network)
    if device.type == "cuda":
        for module in network.modules():
            if isinstance(module, Stem):
                module.for_gpu = True
    if train.grad_checkpointing:
        enable_grad_checkpointing(network)
    if on_cpu and (train.kernels or train.compile):
        check_compiler("train.kernels" if train.kernels else "train.compile")
    if train.compile and device.type == "cuda":
        check_triton("train.compile")
    if train.kernels or (train.compile and train.precision == "bf16"):
        use_kernels(network, on_cpu=on_cpu, required=train.kernels)
    if train.compile and on_cpu:
        replace_modules(network, as_kernel_gelu)
    if train.compile:
        network.compile(dynamic=False)  # compiles at the first step, once per input shape


def use_kernels(network: nn.Module, *, on_cpu: bool, required: bool) -> None:
    """Replace attention and MLPs by our bf16 kernels; if these cannot run, raise UserError if they are `required`."""
    if on_cpu and kernels_available():
        replace_modules(network, as_kernel_attention)
        replace_modules(network, as_kernel_mlp)
    elif required:
        raise UserError(
            "train.kernels = true: the kernels need a CPU with bf16 matrix multiplication (AMX), which this run does not use. Set "
            "train.kernels=false."
        )


def disable_fused_attention(network: nn.Module) -> None:
    """Compute attention by two matrix products and a softmax instead of PyTorch's fused kernel.

    In bf16 on a CPU the fused kernel's backward pass takes ten times as long (65 tokens, 3 heads of 64), half of a step. On a GPU
    it is not deterministic.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]


def enable_grad_checkpointing(network: nn.Module) -> None:
    """Store only the input of each block, and recompute its activations in the backward pass (activation checkpointing).

    PyTorch's reentrant form, which TIMM_REENTRANT_CKPT asks for, is turned off: blocks on frozen embeddings get no gradient in it.
    """
    set_reentrant_ckpt(False)
    stem = {id(module) for name, module in network.named_modules() if name.startswith("patch_embed")}
    outside = (module for module in network.modules() if id(module) not in stem)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in outside):
        raise UserError(
            "train.grad_checkpointing = true: this network has batch norms outside its stem, whose running statistics would be "
            "updated twice per batch. Set train.grad_checkpointing=false; train.micro_batch_size also saves memory."
        )
    network.set_grad_checkpointing(True)  # type: ignore[operator]


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run networks eagerly within the block: in evaluation, each other batch shape would trigger a compilation."""
    with torch.compiler.set_stance("force_eager"):
        yield
