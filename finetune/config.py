"""Owns the keys of a fine-tuning recipe. One-stage and two-stage training differ in `init` alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from common.data.sources import DataConfig
from common.data.supervised import AugmentConfig
from common.models.networks import ModelConfig
from common.training.config import TrainConfig
from common.training.optimizers import OptimConfig


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """A supervised recipe: one-stage training without `init`, two-stage training with the run folder of a pre-training."""

    out: str
    """Run folder. The same recipe with the same folder goes on where it stopped."""
    init: str | None = None
    """What the network starts from: none, a run folder, a .safetensors file, the official DINO .pth, a timm name, hf-hub:<id>."""
    head_init_scale: float = 1.0
    """Factor on the classifier's first weights; 0.001 lets a pre-trained network start undisturbed."""
    ema_decay: float | None = None
    """Decay of a moving average of the weights, which is then what is evaluated and exported; none = the weights themselves."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that do not fit each other."""
        if self.head_init_scale < 0:
            yield "head_init_scale", f"{self.head_init_scale} must not be negative."
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            yield "ema_decay", f"{self.ema_decay} must lie in (0, 1); none turns it off."
        if self.optim.name == "sam" and self.train.precision == "fp16":
            yield (
                "train.precision",
                "fp16 scales gradients, and SAM's climb needs them unscaled; use bf16 or fp32 with sam.",
            )
