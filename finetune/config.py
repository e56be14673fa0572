"""Owns the keys of a fine-tuning recipe. One-stage and two-stage training differ in `init` alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from common.data.augment.supervised import AugmentConfig
from common.data.config import DataConfig
from common.models.networks import ModelConfig
from common.training.config import TrainConfig
from common.training.optimizers import OptimConfig
from common.training.status import SupervisedVerdictConfig
from finetune.reid.triplet import IdentificationConfig


@dataclass(frozen=True, kw_only=True)
class TokenLabelsConfig:
    """Token labelling (Jiang et al. 2021), as VOLO is trained (Yuan et al. 2021). `augment.smoothing` holds for all targets."""

    labels: str | None = None
    """Folder of dense labels that the evaluation `token_labels` made; none = every token learns its image's own label. Crop,
    flip, rotation and shift are applied to them; what a policy moves is not, as in the paper's code."""
    weight: float = 0.5
    """Factor on the tokens' mean loss."""
    class_weight: float = 1.0
    """Factor on the class token's loss."""
    class_target: Literal["label", "dense"] = "label"
    """What the class token learns: the image's label, as in the paper; or the mean of the crop's dense labels, as in its code."""
    mix_token: float = 1.0
    """Alpha and beta of the beta distribution of MixToken's area; 0 for no MixToken."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        for name in ("weight", "class_weight", "mix_token"):
            if not 0 <= getattr(self, name) <= 100:
                yield name, f"{getattr(self, name)} is out of range: give a value in [0, 100]."
        if self.weight == self.class_weight == 0:
            yield "weight", "0, and class_weight is 0 too: nothing would be learnt. Give one of them a value."
        if self.class_target == "dense" and self.labels is None:
            yield "class_target", "dense: needs dense labels. Name their folder in token_labels.labels, or take label."


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """A supervised recipe: one-stage training without `init`, two-stage training with the run folder of a pre-training."""

    out: str
    """Run folder. The same recipe with the same folder goes on where it stopped."""
    init: str | None = None
    """What the network starts from: none, a run folder, a .safetensors file, the official DINO .pth, a timm name, hf-hub:<id>."""
    objective: Literal["classification", "token_labels", "identification"] = "classification"
    """What is learnt: classes of images; classes of images and of every token (`token_labels`, VOLO alone); or to know identities
    again that training never showed (`identification`)."""
    head_init_scale: float = 1.0
    """Factor on the classifier's first weights; 0.001 lets a pre-trained network start undisturbed."""
    ema_decay: float | None = None
    """Decay of a moving average of the weights, which is then what is evaluated and exported; none = the weights themselves."""
    ema_span: float | None = None
    """Length of the moving average as a share of the run, instead of `ema_decay`, so that it lags alike in short and long runs: its
    decay is 1 - 1 / (ema_span * steps). Until the warm-up of the learning rate ends, it is the weights themselves. pycls: 0.078."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    token_labels: TokenLabelsConfig = field(default_factory=TokenLabelsConfig)
    identification: IdentificationConfig = field(default_factory=IdentificationConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    verdict: SupervisedVerdictConfig = field(default_factory=SupervisedVerdictConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that do not fit each other."""
        if self.head_init_scale < 0:
            yield "head_init_scale", f"{self.head_init_scale} must not be negative."
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            yield "ema_decay", f"{self.ema_decay} must lie in (0, 1); none turns it off."
        if self.ema_span is not None and not 0 < self.ema_span <= 1:
            yield (
                "ema_span",
                f"{self.ema_span} must lie in (0, 1]: it is a share of the run's steps; none turns it off.",
            )
        if self.ema_span is not None and self.ema_decay is not None:
            yield "ema_span", "set, and ema_decay too: they are two ways to say one thing. Keep one of them."
        if self.optim.name == "sam" and self.train.precision == "fp16":
            yield (
                "train.precision",
                "fp16 scales gradients, and SAM's climb needs them unscaled; use bf16 or fp32 with sam.",
            )
        if self.objective == "token_labels" and (self.augment.mixup or self.augment.cutmix):
            yield (
                "augment.mixup",
                "token_labels mixes tokens, and nothing else; set augment.mixup=0 augment.cutmix=0.",
            )
        if self.objective == "token_labels" and not isinstance(self.data.image_size, int):
            yield "data.image_size", f"{list(self.data.image_size)}: token_labels takes square images; give one side."
        if self.objective != "token_labels" and self.token_labels != TokenLabelsConfig():
            yield (
                "token_labels",
                f"set, but objective is {self.objective}. Set objective=token_labels, or leave the section out.",
            )
        if self.objective == "identification":
            yield from self._identification_problems()
        elif self.identification != IdentificationConfig():
            yield (
                "identification",
                f"has no part in objective: {self.objective}; leave it out or set objective=identification.",
            )

    def _identification_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for what does not fit batches of identities with one label an image."""
        images = self.identification.images_per_identity
        if images > 1 and (self.train.batch_size % images or self.train.batch_size < 2 * images):
            yield (
                "train.batch_size",
                f"{self.train.batch_size} must be a multiple, from 2 times on, of identification.images_per_identity = {images}.",
            )
        for name, off in (("mixup", 0.0), ("cutmix", 0.0), ("repeats", 1)):
            if getattr(self.augment, name) != off:
                yield (
                    f"augment.{name}",
                    f"{getattr(self.augment, name)} has no part in objective: identification; set it to {off:g}.",
                )
