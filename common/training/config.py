"""Owns the keys of a training run that both stages share."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how much at once, on what."""

    epochs: int = 100
    """Passes over the (subset of the) training images."""
    batch_size: int = 256
    """Images per optimizer step over all processes together."""
    micro_batch: int | None = None
    """Images per forward pass of one process, for a batch that does not fit into the memory: gradients are summed over the
    parts, and the step is the same up to rounding. none = the whole batch at once. Batch norm in a conv stem is the exception:
    it takes its statistics from one part. Drop path draws anew for each part."""
    seed: int = 0
    """Seed of the weights, the order of the images and every random draw."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights and moments stay in fp32."""
    compile: bool = False
    """Whether torch.compile fuses the network's operations. It costs a minute or two at the first start and some 15 s at later
    ones (docs/performance.md); on a CPU it needs a C++ compiler, and in bf16 it brings `train.kernels` with it."""
    kernels: bool = False
    """Whether attention and MLPs run by C++ kernels of this project: for `train.precision` bf16 on a CPU that multiplies
    matrices of bf16 (AMX). They need a C++ compiler, and some seconds at the first start on a machine."""
    recompute: bool = False
    """Whether each block's forward pass is run again in the backward pass instead of being kept (activation checkpointing):
    little more than half of the memory for a quarter more time (ViT-S/16, 2x224 + 8x96). The step is the same to the bit."""
    evaluate_every: int = 10
    """Epochs between looks at the validation images; the last epoch is always looked at."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints; one is also written when a signal stops the run, and at the end."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, beside those by the clock; none = by the clock alone."""
    keep_checkpoints: int = 2
    """Checkpoints that stay: the last so many. Two, so that one is left when the last is damaged."""
    milestone_epochs: int | None = None
    """Epochs between checkpoints that are kept for ever; none = there are none."""
    on_crash: Literal["stop", "rewind"] = "stop"
    """What a crash does: end the run, or go back to the last checkpoint and leave out the batches up to the crash. Where the
    checkpoints lie by the clock, so does the way back: set `train.checkpoint_steps` for a run that can be repeated."""
    max_rewinds: int = 3
    """How often a run may go back before a crash ends it after all; read only when `train.on_crash` is rewind."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl; every epoch ends with one in any case."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        for name in (
            "epochs",
            "batch_size",
            "evaluate_every",
            "checkpoint_steps",
            "keep_checkpoints",
            "milestone_epochs",
            "max_rewinds",
            "log_every",
        ):
            if (value := getattr(self, name)) is not None and value < 1:
                yield name, f"{value} must be at least 1."
        for name, most in (("epochs", 10**6), ("batch_size", 2**24)):
            if getattr(self, name) > most:
                yield name, f"{getattr(self, name)} must be at most {most}."
        if self.seed < 0:
            yield "seed", f"{self.seed} must be at least 0."
        if self.checkpoint_minutes <= 0:
            yield "checkpoint_minutes", f"{self.checkpoint_minutes} must be above 0."
        if self.kernels and self.precision != "bf16":
            yield (
                "kernels",
                f"true: the kernels are for bf16, and precision is {self.precision}. Set train.precision=bf16 too.",
            )
        if self.micro_batch is not None and (self.micro_batch < 2 or self.micro_batch % 2):
            yield (
                "micro_batch",
                f"{self.micro_batch} must be even and at least 2: neighbours, which are mixed in pairs, stay together.",
            )
