"""Owns how a step is computed where that leaves its result as it is, to rounding: kernels, compiler, recomputation."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from common.errors import UserError
from common.models.kernels.attention import as_kernel_attention
from common.models.kernels.gelu import as_kernel_gelu, as_kernel_mlp
from common.models.kernels.library import runs_kernels
from common.models.replacement import replace_modules
from common.training.config import TrainConfig


def set_execution(network: nn.Module, train: TrainConfig, device: torch.device) -> None:
    """Choose the network's kernels for the device, and compile or recompute as the recipe says; names and weights stay.

    Errors: `train.compile` or `train.kernels` without a C++ compiler, `train.kernels` where there is a GPU or a processor without
    products of bf16 matrices, `train.recompute` over a batch norm.
    """
    on_cpu = device.type == "cpu"
    if on_cpu and train.precision != "fp32":
        use_plain_attention(network)
    if train.recompute:
        recompute_blocks(network)
    if on_cpu and (train.kernels or train.compile):
        check_compiler("train.kernels" if train.kernels else "train.compile")
    if train.kernels or (train.compile and train.precision == "bf16"):
        use_kernels(network, on_cpu=on_cpu, required=train.kernels)
    if train.compile and on_cpu:
        replace_modules(network, as_kernel_gelu)
    if train.compile:
        network.compile(dynamic=False)  # it happens at the first step, once a shape


def use_kernels(network: nn.Module, *, on_cpu: bool, required: bool) -> None:
    """Compute attention and MLPs by our kernels for bf16; where they cannot run, raise UserError if they are required."""
    if on_cpu and runs_kernels():
        replace_modules(network, as_kernel_attention)
        replace_modules(network, as_kernel_mlp)
    elif required:
        raise UserError(
            "train.kernels = true: the kernels are for CPUs that multiply matrices of bf16 (AMX), which is not where this run "
            "computes. Set train.kernels=false."
        )


def use_plain_attention(network: nn.Module) -> None:
    """Let attention be two products and a softmax instead of PyTorch's fused kernel.

    In bf16 on a CPU the fused kernel's backward pass takes ten times as long (65 tokens, 3 heads of 64), half of a step.
    """
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # type: ignore[assignment]


def recompute_blocks(network: nn.Module) -> None:
    """Keep only what goes into each block for the backward pass, and run its forward pass once more there."""
    stem = {id(module) for name, module in network.named_modules() if name.startswith("patch_embed")}
    inside = (module for module in network.modules() if id(module) not in stem)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in inside):
        raise UserError(
            "train.recompute = true: this network has batch norms behind its stem, whose running statistics would count every "
            "batch twice. Set train.recompute=false; train.micro_batch saves memory too."
        )
    network.set_grad_checkpointing(True)  # type: ignore[operator]


def check_compiler(key: str) -> None:
    """Raise UserError where there is no C++ compiler, which this key needs for a CPU."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise UserError(
            f"{key} = true: needs a C++ compiler, and there is no {' or '.join(names)} here. Install one (Debian: "
            f"apt install g++), name yours in the environment variable CXX, or set {key}=false."
        )


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run networks as they are within the block: for evaluation, whose batches of other shapes would be compiled each."""
    with torch.compiler.set_stance("force_eager"):
        yield
