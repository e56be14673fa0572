"""How fast bf16 is on the device of a run: without a unit for it, products take longer than in fp32, which is warned of."""

import logging
import statistics
import time

import torch

logger = logging.getLogger(__name__)

REPEATS = 5
"""Measurements of each precision, in turn; their medians are compared."""
SIDES = {"cpu": 512, "cuda": 4096}
"""Side of the square matrices that are multiplied, large enough for the device's full rate."""
SLOW = 0.9
"""Speed relative to fp32 below which bf16 does not pay, beyond the noise of a short measurement."""


def measure_bf16(device: torch.device) -> float:
    """Return the rate of matrix products in bf16 relative to that in fp32; it takes some 0.1 s on a core and draws nothing."""
    side = SIDES.get(device.type, SIDES["cpu"])
    matrices = {dtype: torch.ones(side, side, dtype=dtype, device=device) for dtype in (torch.float32, torch.bfloat16)}
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in matrices}
    for _ in range(1 + REPEATS):  # the first time includes the choice of a kernel
        for dtype, matrix in matrices.items():
            started = time.perf_counter()
            matrix @ matrix
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds[dtype].append(time.perf_counter() - started)
    fp32, bf16 = (statistics.median(times[1:]) for times in seconds.values())
    return fp32 / bf16


def warn_of_slow_bf16(device: torch.device) -> None:
    """Warn with the measured ratio where bf16 is slower than fp32."""
    ratio = measure_bf16(device)
    if ratio < SLOW:
        logger.warning(
            "warning: train.precision = bf16: matrix products take %.1f times as long as in fp32 here (measured), as on processors "
            "without a unit for it. train.precision=fp32 is faster.",
            1 / ratio,
        )
