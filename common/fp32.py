"""How a GPU computes products and convolutions of float32: in full precision, or in TF32, which has 10 bits of mantissa."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def allow_tf32(allowed: bool) -> None:
    """Compute products and convolutions alike; by default PyTorch computes products in full precision and convolutions in TF32."""
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def full_fp32() -> Iterator[None]:
    """Compute in full precision within the block, for numbers that are no activations, such as pixels."""
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    allow_tf32(False)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions
