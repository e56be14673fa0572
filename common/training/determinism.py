"""Deterministic algorithms on a GPU (`train.deterministic`), so that the same recipe gives the same bits; CPUs need none."""

import os

import torch

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def set_deterministic(enabled: bool) -> None:
    """Let PyTorch choose deterministic algorithms where it has them, or the fastest ones; call it before the GPU is first used.

    PyTorch warns by name of an operation that has none. The networks avoid those that are known: the fused attention
    (`configure_execution`) and the gradient of bicubic resampling (`resample_position`).
    """
    if enabled:
        os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS is deterministic only with a workspace of fixed size
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
