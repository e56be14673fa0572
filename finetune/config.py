"""Configuration of a fine-tuning recipe. One-stage and two-stage training differ in `init` only."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from common.config import Config
from common.config_messages import Otherwise
from common.config_types import NonNegative
from common.data.augment.mixing import mixing_problems, pair_problems
from common.data.augment.supervised import AugmentConfig, channel_problems
from common.data.config import DataConfig
from common.models.freezing import FreezeConfig, adaptation_problems
from common.models.lora import LoraConfig
from common.models.networks import ModelConfig
from common.training.config import TrainConfig
from common.training.optimizers import OptimConfig
from common.training.status import SupervisedStatusConfig
from finetune.loss import LossConfig
from finetune.reid.triplet import ReidConfig

_Weight = Annotated[float, Field(ge=0, le=100), Otherwise("is out of range; set a value in [0, 100].")]
_Span = Annotated[
    float,
    Field(gt=0, le=1),
    Otherwise("must lie in (0, 1], a fraction of the run's steps; none disables the EMA."),
]


MIX_TOKEN = ("the images of MixToken", "token_labels.mix_token=0")
"""What needs pairs of images, and the key that turns it off, as `MIXING`."""


class TokenLabelsConfig(Config):
    """Token labeling (Jiang et al. 2021), as in VOLO (Yuan et al. 2021). `augment.label_smoothing` applies to all targets."""

    labels: str | None = None
    """Folder of token labels written by the evaluation `token_labels`; none = every token is trained on its image's label. Crop,
    flip, rotation and translation are applied to them; geometric operations of `auto_augment` are not, as in the paper's code."""
    weight: _Weight = 0.5
    """Weight of the mean loss over the tokens."""
    class_weight: _Weight = 1.0
    """Weight of the class token's loss."""
    class_target: Literal["label", "dense"] = "label"
    """Target of the class token: the image's label, as in the paper, or the mean of the crop's token labels, as in its code."""
    mix_token: _Weight = 1.0
    """Alpha and beta of the beta distribution of MixToken's area; 0 disables MixToken."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for invalid values."""
        if self.weight == self.class_weight == 0:
            yield (
                "weight",
                "0, and class_weight is 0 too: the loss would be constant. Set at least one of them above 0.",
            )
        if self.class_target == "dense" and self.labels is None:
            yield (
                "class_target",
                "dense: requires token labels. Set token_labels.labels to their folder, or class_target=label.",
            )


class FinetuneConfig(Config):
    """Configuration of a supervised run: one-stage training without `init`, two-stage training with a pre-training's run folder."""

    out: str
    """Run folder. The same recipe with the same folder resumes from the last checkpoint."""
    init: str | None = None
    """Initial weights: none, a run folder or checkpoint, a file or folder of weights as timm, DINO, DINOv2, DINOv3, CLIP or
    transformers save them, a timm name, hf-hub:<id>."""
    objective: Literal["classification", "token_labels", "reid"] = "classification"
    """Training objective: image classification; classification of the image and of every token (`token_labels`, VOLO only); or
    re-identification of identities not seen in training (`reid`)."""
    head_init_scale: NonNegative = 1.0
    """Factor on the initial weights of the classifier; 0.001 keeps a pre-trained backbone nearly unchanged in the first steps."""
    ema_decay: Annotated[float, Field(gt=0, lt=1), Otherwise("must lie in (0, 1); none disables the EMA.")] | None = (
        None
    )
    """Decay of an EMA of the weights, which is then evaluated and exported; none = no EMA."""
    ema_span: _Span | None = None
    """Length of the EMA as a fraction of the run, instead of `ema_decay`, so that short and long runs have the same relative lag:
    decay = 1 - 1 / (ema_span * steps). During the learning rate warm-up the EMA equals the weights. pycls: 0.078."""
    model: ModelConfig = ModelConfig()
    freeze: FreezeConfig = FreezeConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    token_labels: TokenLabelsConfig = TokenLabelsConfig()
    reid: ReidConfig = ReidConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    status: SupervisedStatusConfig = SupervisedStatusConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that contradict each other."""
        yield from adaptation_problems(self.freeze, self.lora)
        if self.ema_span is not None and self.ema_decay is not None:
            yield "ema_span", "set, and ema_decay too: both define the length of the EMA. Remove one of them."
        if self.optim.name == "sam" and self.train.precision == "fp16":
            yield (
                "train.precision",
                "fp16 scales the gradients, but SAM's ascent step needs unscaled ones. Use bf16 or fp32 with sam.",
            )
        if self.objective == "token_labels" and (self.augment.mixup or self.augment.cutmix):
            yield (
                "augment.mixup",
                "token_labels mixes tokens (MixToken) only. Set augment.mixup=0 augment.cutmix=0.",
            )
        if self.objective == "token_labels" and self.token_labels.mix_token:
            yield from pair_problems(self.train.batch_size, *MIX_TOKEN)
        if self.loss != LossConfig() and self.augment.label_smoothing == 1:
            yield (
                "augment.label_smoothing",
                "1: no target depends on its label, so there is nothing that the section loss could correct. Set a lower value.",
            )
        if self.objective == "classification":
            yield from mixing_problems(self.augment, self.train.batch_size)
        if self.objective == "token_labels" and not isinstance(self.data.image_size, int):
            yield (
                "data.image_size",
                f"{list(self.data.image_size)}: token_labels requires square images. Set a single side length.",
            )
        if self.objective != "token_labels" and self.token_labels != TokenLabelsConfig():
            yield (
                "token_labels",
                f"set, but objective is {self.objective}. Set objective=token_labels or remove the section.",
            )
        for name, message in channel_problems(self.augment, channels=self.data.channels, bits=self.data.bit_depth):
            yield f"augment.{name}", message
        if self.objective == "reid":
            yield from self._identification_problems()
        elif self.reid != ReidConfig():
            yield (
                "reid",
                f"set, but objective is {self.objective}. Set objective=reid or remove the section.",
            )

    def _identification_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for settings that contradict PK batches with one hard label per image."""
        if self.train.shuffle_shards is not None:
            yield (
                "train.shuffle_shards",
                f"{self.train.shuffle_shards}: objective=reid draws batches by identity. Remove the key.",
            )
        if self.loss != LossConfig():
            yield (
                "loss",
                "set, but objective is reid, whose batches have as many images of every identity. Remove the section.",
            )
        images = self.reid.images_per_identity
        if images > 1 and (self.train.batch_size % images or self.train.batch_size < 2 * images):
            yield (
                "train.batch_size",
                f"{self.train.batch_size} must be a multiple of reid.images_per_identity = {images}, at least 2 times.",
            )
        for name, off in (("mixup", 0.0), ("cutmix", 0.0), ("aug_repeats", 1)):
            if getattr(self.augment, name) != off:
                yield (
                    f"augment.{name}",
                    f"{getattr(self.augment, name)} is not supported with objective: reid. Set it to {off:g}.",
                )
