"""Owns the keys of the evaluations' recipes: what is looked at, through which network, by which measure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from common.data.augment.supervised import AugmentConfig
from common.data.config import DataConfig
from common.models.networks import ModelConfig
from common.training.config import TrainConfig
from common.training.optimizers import OptimConfig


@dataclass(frozen=True, kw_only=True)
class PassConfig:
    """How a network that is not trained goes over the images."""

    batch_size: int = TrainConfig.batch_size
    """Images that all processes together look at at once."""
    seed: int = TrainConfig.seed
    """Seed of the draw of images where not all are looked at, and of an untrained network's weights."""
    precision: Literal["fp32", "bf16", "fp16"] = TrainConfig.precision
    """Arithmetic of the network; the measures are taken in fp32."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.batch_size < 1:
            yield "batch_size", f"{self.batch_size} must be at least 1."

    def as_train(self) -> TrainConfig:
        """Return the same for a `Run`."""
        return TrainConfig(batch_size=self.batch_size, seed=self.seed, precision=self.precision)


def frozen_problems(model: ModelConfig) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for what is asked of a network that is not trained, and is only for training."""
    if model.drop_path not in (0.0, ModelConfig.drop_path):
        yield "model.drop_path", f"{model.drop_path}: no path is dropped where nothing is trained. Leave the key out."


@dataclass(frozen=True, kw_only=True)
class NeighboursConfig:
    """k-NN classification of features (DINO, section 4.1 and appendix)."""

    ks: tuple[int, ...] = (20, 10, 100, 200)
    """Numbers of neighbours; the first is the one reported."""
    temperature: float = 0.07
    """Temperature of a neighbour's vote, exp(similarity / temperature)."""
    crop: float = 0.875
    """Share of the resized image's side that the central crop keeps; 1 for small images that fill their frame."""
    bank_images: int | None = None
    """Training images at most that serve as neighbours; none = all."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if not self.ks or min(self.ks) < 1:
            yield "ks", f"{list(self.ks)} must hold at least one number, each at least 1."
        if not 0 < self.crop <= 1:
            yield "crop", f"{self.crop} must lie in (0, 1]."
        if self.temperature <= 0:
            yield "temperature", f"{self.temperature} must be above 0."
        if self.bank_images is not None and self.bank_images < 1:
            yield "bank_images", f"{self.bank_images} must be at least 1."


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """A linear evaluation: a classifier of one layer is trained on the features of a frozen network."""

    out: str
    """Run folder. The same recipe with the same folder goes on where it stopped."""
    init: str | None
    """What is judged: a run folder, a .safetensors file, the official DINO .pth, a timm name, hf-hub:<id>; none = the
    untrained network."""
    blocks: int = 4
    """Last blocks whose class tokens are the features (DINO: 4 for ViT-S, 1 for ViT-B); networks without class tokens take 1."""
    average_pool: bool = False
    """Whether the average of the last block's patch tokens is added to the features (DINO's ViT-B)."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that do not fit each other."""
        if self.blocks < 1:
            yield "blocks", f"{self.blocks} must be at least 1."
        if self.train.micro_batch is not None:
            yield (
                "train.micro_batch",
                f"{self.train.micro_batch}: one layer is trained, any batch fits. Leave the key out.",
            )
        for name in ("compile", "kernels", "recompute"):
            if getattr(self.train, name):
                yield (
                    f"train.{name}",
                    "true: is for training a network, and here one layer is trained. Leave the key out.",
                )
        if self.train.on_crash == "rewind":
            yield (
                "train.on_crash",
                "rewind is for training; a linear classifier that diverges needs a smaller optim.lr.",
            )
        if self.optim.name == "sam":
            yield "optim.name", "sam is for fine-tuning; a linear classifier is trained with sgd or adamw."
        if self.optim.layer_decay != 1:
            yield (
                "optim.layer_decay",
                f"{self.optim.layer_decay}: one layer is trained, so there is nothing to decay from. Set it to 1.",
            )
        if not self.optim.decay_embeddings:
            yield "optim.decay_embeddings", "false: no embedding is trained here. Leave the key out."
        yield from frozen_problems(self.model)


@dataclass(frozen=True, kw_only=True)
class KnnEvaluationConfig:
    """A k-NN evaluation: the training images vote on the validation and the test images; nothing is trained."""

    out: str
    """Run folder. The same recipe with the same folder does nothing once the result is there."""
    init: str | None
    """What is judged: a run folder, a .safetensors file, the official DINO .pth, a timm name, hf-hub:<id>; none = the
    untrained network."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    knn: NeighboursConfig = field(default_factory=NeighboursConfig)
    train: PassConfig = field(default_factory=PassConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that do not fit each other."""
        yield from frozen_problems(self.model)


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """A look at how alike the patch tokens of an image are, layer by layer (figure 1 of "Scaled ReLU Matters")."""

    out: str
    """Run folder. The same recipe with the same folder does nothing once the result is there."""
    init: str | None
    """What is looked at: a run folder, a .safetensors file, the official DINO .pth, a timm name, hf-hub:<id>; none = the
    untrained network."""
    images: int = 1000
    """Images at most that are averaged over, drawn by `train.seed` where the split holds more."""
    split: Literal["validation", "test"] = "validation"
    """Which images are looked at."""
    crop: float = 0.875
    """Share of the resized image's side that the central crop keeps; 1 for small images that fill their frame."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: PassConfig = field(default_factory=PassConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.images < 1:
            yield "images", f"{self.images} must be at least 1."
        if not 0 < self.crop <= 1:
            yield "crop", f"{self.crop} must lie in (0, 1]."
        yield from frozen_problems(self.model)


@dataclass(frozen=True, kw_only=True)
class ComplexityConfig:
    """A count of what a network costs: parameters, multiply-adds, activations; no image is looked at."""

    out: str
    """Run folder."""
    image_size: int = 224
    """Side of the image that the network is counted for, pixels."""
    num_classes: int = 1000
    """Classes of the classifier, which is counted with the rest."""
    model: ModelConfig = field(default_factory=ModelConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        for name in ("image_size", "num_classes"):
            if getattr(self, name) < 1:
                yield name, f"{getattr(self, name)} must be at least 1."
        yield from frozen_problems(self.model)


@dataclass(frozen=True, kw_only=True)
class LabellingConfig:
    """How the teacher goes over the images."""

    batch_size: int = 256
    """Images that all processes together look at at once."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the teacher; probabilities are taken in fp32 and stored in 16 bits."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.batch_size < 1:
            yield "batch_size", f"{self.batch_size} must be at least 1."


@dataclass(frozen=True, kw_only=True)
class DenseLabelsConfig:
    """Make dense labels of training images for token labelling (Jiang et al. 2021)."""

    out: str
    """Run folder, and what `token_labels.labels` of a fine-tuning names. The same recipe goes on where it stopped."""
    init: str
    """The teacher: a run folder of fine-tuning, timm:<name>, hf-hub:<id>, local-dir:<folder>."""
    classes: int = 5
    """Likeliest classes that are kept at each place."""
    data: DataConfig = field(default_factory=DataConfig)
    """Its training images are labelled; `image_size`, `mean` and `std` are the teacher's."""
    train: LabellingConfig = field(default_factory=LabellingConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.classes < 1:
            yield "classes", f"{self.classes} must be at least 1."
        if self.data.on_error == "skip":
            yield (
                "data.on_error",
                "skip: every training image gets labels of its own, and no other can stand in for a broken one. Restore or remove "
                "those that are broken, and leave the key out.",
            )
        if not isinstance(self.data.image_size, int):
            yield (
                "data.image_size",
                f"{list(self.data.image_size)}: dense labels are made of square images; give one side.",
            )


CONFIGS: dict[str, type[Any]] = {
    "linear": LinearConfig,
    "knn": KnnEvaluationConfig,
    "tokens": TokensConfig,
    "complexity": ComplexityConfig,
    "token_labels": DenseLabelsConfig,
}
"""The evaluations by the word that follows `-m common.evaluation`."""
