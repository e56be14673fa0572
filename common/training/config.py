"""Config of a training run, shared by both stages."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from common.config import Config
from common.config_messages import Otherwise
from common.config_types import AtLeastOne, Positive, Seed
from common.training.tracker import TrackerName

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
"""Precision of products and convolutions; auto: see `common.training.precision_choice`."""
_MicroBatch = Annotated[
    int,
    Field(ge=2, multiple_of=2),
    Otherwise("must be even and at least 2: consecutive images are mixed in pairs, which stay together."),
]


class TrainConfig(Config):
    """Length, batch size, precision, checkpoints and logging of a training run."""

    epochs: Annotated[int, Field(ge=1, le=10**6)] = 100
    """Passes over the (subset of the) training images."""
    batch_size: Annotated[int, Field(ge=1, le=2**24)] = 256
    """Images per optimizer step over all processes together."""
    micro_batch_size: _MicroBatch | None = None
    """Images per forward pass of one process, for a batch that does not fit into memory: gradients are accumulated over the
    micro-batches, and the step is the same up to rounding. none = the complete batch. Batch norm in a conv stem is the exception:
    its statistics come from a single micro-batch. Drop path draws anew for each micro-batch. Evaluations take as many at a time."""
    seed: Seed = 0
    """Seed of the weights, the order of the images and every random draw."""
    shuffle_shards: AtLeastOne | None = None
    """Number of shards (tar files, tables) whose images are mixed in an epoch: shards come in random order, so that a disk or a
    server is read shard by shard. none: an epoch is a permutation of all images. It changes their order, and so the results."""
    precision: Precision = "fp32"
    """Precision of the forward and backward pass; weights and optimizer moments stay in fp32. tf32: fp32 whose products and
    convolutions have the 10 bits of mantissa of a GPU's TF32; fp32 has all bits on GPUs, too. auto: bf16 where the device
    multiplies matrices in it at least 1.4 times as fast as in fp32, which is measured when the run begins and kept, otherwise
    fp32."""
    compile: bool = False
    """Whether to use torch.compile. It takes a minute or two at the first start and about 15 s at later ones
    (docs/performance.md); on a CPU it needs a C++ compiler, and in bf16 it also enables `train.kernels`."""
    kernels: bool = False
    """Whether to use this project's C++ kernels for attention and MLPs: for `train.precision` bf16 on a CPU with bf16 matrix
    multiplication (AMX). They need a C++ compiler, and some seconds at the first start on a machine."""
    class_token_only: bool = False
    """Whether the last block computes only its class token, which is all that the network's output depends on: the same step up to
    rounding, for 7% fewer MACs of 12 blocks, 21% of 4. For vision transformers that pool their class token."""
    grad_checkpointing: bool = False
    """Whether to recompute each block's activations in the backward pass instead of storing them (activation checkpointing):
    slightly more than half of the memory for a quarter more time (ViT-S/16, 2x224 + 8x96). The step is bitwise the same."""
    deterministic: bool = False
    """Whether the same recipe ends with the same bits on a GPU, too: deterministic algorithms, attention without the fused kernel.
    It is slower. On CPUs every run does so without it, for a given number of threads."""
    evaluate_every: AtLeastOne = 10
    """Epochs between evaluations on the validation images; the last epoch is always evaluated. Pre-training has `knn.every_epochs`
    instead."""
    checkpoint_minutes: Positive = 10.0
    """Minutes between checkpoints; one is also written when a signal stops the run, and at the end."""
    checkpoint_steps: AtLeastOne | None = None
    """Steps between checkpoints, in addition to `train.checkpoint_minutes`; none = by time only."""
    keep_checkpoints: AtLeastOne = 2
    """Number of latest checkpoints to keep. Two, so that one remains if the last is corrupt."""
    keep_every_epochs: AtLeastOne | None = None
    """Epochs between checkpoints that are kept permanently; none = no such checkpoints."""
    on_divergence: Literal["stop", "rewind"] = "stop"
    """Action after a divergence: stop the run, or rewind to the last checkpoint and skip the batches up to the divergence. If
    checkpoints are written by time, the rewind depends on timing: set `train.checkpoint_steps` for a reproducible run."""
    max_rewinds: AtLeastOne = 3
    """Maximum number of rewinds before a divergence ends the run; read only if `train.on_divergence` is rewind."""
    log_every: AtLeastOne = 50
    """Steps between lines of metrics.jsonl; a line is also written at the end of every epoch."""

    tracker: TrackerName | None = None
    """Experiment tracker that also gets the lines of metrics.jsonl, the resolved recipe and the status: tensorboard (files in the
    run folder), wandb, mlflow or trackio, whose package must be installed. One that fails does not stop the run."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.kernels and self.precision != "bf16":
            yield (
                "kernels",
                f"true: the kernels support bf16 only, and precision is {self.precision}. Also set train.precision=bf16.",
            )
        if self.deterministic and self.compile:
            yield (
                "deterministic",
                "true, and compile is true: torch.compile chooses kernels by their time. Set compile=false, or remove the key.",
            )
