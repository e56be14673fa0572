"""Configs of the evaluations: which backbone is evaluated, on which images, by which metric."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from common.config import Config, default_of
from common.config_messages import Otherwise
from common.config_types import AtLeastOne, CropFraction, Positive
from common.data.augment.mixing import mixing_problems
from common.data.augment.supervised import AugmentConfig, channel_problems
from common.data.config import MEASURED, DataConfig
from common.models.networks import ModelConfig
from common.training.config import Precision, TrainConfig
from common.training.optimizers import OptimConfig

L2Strength = Annotated[float, Field(ge=1e-9, le=1e9), Otherwise("must be between 1e-9 and 1e9")]
"""A regularization strength that single precision can represent."""


class InferenceConfig(Config):
    """Batch size, seed and precision of an inference pass over the images."""

    batch_size: AtLeastOne = default_of(TrainConfig, "batch_size")
    """Images per batch, over all processes together."""
    seed: int = default_of(TrainConfig, "seed")
    """Seed of the sample of images if not all are used, and of the weights of an untrained network."""
    precision: Precision = default_of(TrainConfig, "precision")
    """Precision of the forward pass; metrics are computed in fp32."""


def frozen_problems(model: ModelConfig) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for keys that only apply to a backbone in training."""
    if model.drop_path not in (0.0, default_of(ModelConfig, "drop_path")):
        yield (
            "model.drop_path",
            f"{model.drop_path}: drop path only applies to training, and nothing is trained. Remove the key.",
        )


class VotesConfig(Config):
    """Votes of the k nearest neighbors (DINO, section 4.1 and appendix)."""

    ks: tuple[int, ...] = (20, 10, 100, 200)
    """Numbers of neighbors k; `knn_top1` is the accuracy of the first."""
    temperature: Positive = 0.07
    """Temperature of a neighbor's vote, exp(similarity / temperature)."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if not self.ks or min(self.ks) < 1:
            yield "ks", f"{list(self.ks)} must contain at least one number, each at least 1."


class NeighborsConfig(VotesConfig):
    """Weighted k-NN classification of features (DINO, section 4.1 and appendix)."""

    crop_pct: CropFraction = 0.875
    """Side of the center crop as a fraction of the resized image's side (timm's crop_pct); 1 for small images that fill their
    frame."""
    bank_images: AtLeastOne | None = None
    """Maximum number of training images in the feature bank; none = all."""


class LinearConfig(Config):
    """A linear evaluation: trains a linear classifier on the features of a frozen backbone."""

    out: str
    """Run folder. The same recipe with the same folder resumes the run."""
    init: str | None
    """Weights to evaluate: a run folder or checkpoint, a file or folder of weights as timm, DINO, DINOv2, DINOv3, CLIP or
    transformers save them, a timm name, hf-hub:<id>; none = an untrained network."""
    blocks: AtLeastOne = 4
    """Number of last blocks whose class tokens are the features (DINO: 4 for ViT-S, 1 for ViT-B); 1 for networks without class
    tokens."""
    average_pool: bool = False
    """Whether to append the average of the last block's patch tokens to the features (DINO's ViT-B)."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that contradict each other."""
        if self.train.micro_batch_size is not None:
            yield (
                "train.micro_batch_size",
                f"{self.train.micro_batch_size}: only a linear layer is trained, so any batch fits. Remove the key.",
            )
        for name in ("compile", "kernels", "class_token_only", "grad_checkpointing"):
            if getattr(self.train, name):
                yield (
                    f"train.{name}",
                    "true: only applies to training a network; here only a linear layer is trained. Remove the key.",
                )
        if self.train.on_divergence == "rewind":
            yield (
                "train.on_divergence",
                "rewind is not supported here: a linear classifier that diverges needs a smaller optim.lr.",
            )
        for name, message in channel_problems(self.augment, channels=self.data.channels, bits=self.data.bit_depth):
            yield f"augment.{name}", message
        yield from mixing_problems(self.augment, self.train.batch_size)
        if self.optim.name == "sam":
            yield "optim.name", "sam is only for fine-tuning; train a linear classifier with sgd or adamw."
        if self.optim.layer_decay != 1:
            yield (
                "optim.layer_decay",
                f"{self.optim.layer_decay}: only a linear layer is trained, so there is no layer decay. Set it to 1.",
            )
        if not self.optim.decay_embeddings:
            yield "optim.decay_embeddings", "false: no embedding is trained here. Remove the key."
        yield from frozen_problems(self.model)


class KnnEvaluationConfig(Config):
    """A k-NN evaluation: the training images vote on the validation and the test images; nothing is trained."""

    out: str
    """Run folder. The same recipe with the same folder does nothing once the result is there."""
    init: str | None
    """Weights to evaluate: a run folder or checkpoint, a file or folder of weights as timm, DINO, DINOv2, DINOv3, CLIP or
    transformers save them, a timm name, hf-hub:<id>; none = an untrained network."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    knn: NeighborsConfig = NeighborsConfig()
    train: InferenceConfig = InferenceConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that contradict each other."""
        yield from frozen_problems(self.model)


class ProbeConfig(Config):
    """Baselines on frozen features or raw pixels: k-NN and logistic regression; no network is trained."""

    out: str
    """Run folder. The same recipe with the same folder does nothing once the result is there."""
    init: str | None
    """Weights to evaluate: a run folder or checkpoint, a file or folder of weights as timm, DINO, DINOv2, DINOv3, CLIP or
    transformers save them, a timm name, hf-hub:<id>; none = an untrained network, or no network with
    `features: pixels`."""
    features: Literal["network", "pixels"] = "network"
    """What is classified. network: the network's pooled features; pixels: the normalized image itself, flattened, without a
    network (`model` is not used)."""
    crop_pct: CropFraction = 0.875
    """Side of the center crop as a fraction of the resized image's side (timm's crop_pct); 1 for small images that fill their
    frame."""
    l2: tuple[L2Strength, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    """Candidates of the logistic regression's regularization strength s: it minimizes the mean cross-entropy + s / 2 * the sum of
    the squared weights, on standardized features. The best on the validation images is taken, of which no larger share is used
    than `data.fraction`; of equal ones the strongest. Without labeled validation images the middle one is taken."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    knn: VotesConfig = VotesConfig()
    max_products: Positive = 2e10
    """Largest number of training images times features times classes for which logistic regression is fitted. 2e10 are two to three
    hours on a CPU core with five strengths, 1e9 some eight minutes."""
    beyond: Literal["error", "knn"] = "error"
    """What to do beyond `max_products`. error: nothing, with an error before anything is computed; knn: k-NN alone."""
    train: InferenceConfig = InferenceConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values and sections that contradict each other."""
        if self.features == "pixels" and self.init is not None:
            yield (
                "init",
                f"{self.init}: features = pixels takes no network, so there are no weights to load. Set init=none, or "
                "features=network.",
            )
        if not self.l2:
            yield "l2", "[] must contain at least one number above 0."
        yield from frozen_problems(self.model)


class TokensConfig(Config):
    """Cosine similarity between the patch tokens of an image, layer by layer (figure 1 of "Scaled ReLU Matters")."""

    out: str
    """Run folder. The same recipe with the same folder does nothing once the result is there."""
    init: str | None
    """Weights to evaluate: a run folder or checkpoint, a file or folder of weights as timm, DINO, DINOv2, DINOv3, CLIP or
    transformers save them, a timm name, hf-hub:<id>; none = an untrained network."""
    images: AtLeastOne = 1000
    """Maximum number of images to average over, sampled by `train.seed` if the split has more."""
    split: Literal["validation", "test"] = "validation"
    """Split that the images are taken from."""
    crop_pct: CropFraction = 0.875
    """Side of the center crop as a fraction of the resized image's side (timm's crop_pct); 1 for small images that fill their
    frame."""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: InferenceConfig = InferenceConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        yield from frozen_problems(self.model)


class ComplexityConfig(Config):
    """The complexity of a network: parameters, MACs and activations; no data is read."""

    out: str
    """Run folder."""
    image_size: AtLeastOne = 224
    """Side of the input image, pixels."""
    num_classes: AtLeastOne = 1000
    """Number of classes of the classifier, which is included in the counts."""
    model: ModelConfig = ModelConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        yield from frozen_problems(self.model)


class TeacherInferenceConfig(Config):
    """Batch size and precision of the teacher's pass over the images."""

    batch_size: AtLeastOne = 256
    """Images per batch, over all processes together."""
    precision: Precision = "fp32"
    """Precision of the teacher's forward pass; probabilities are computed in fp32 and stored in 16 bits."""


class WriteTokenLabelsConfig(Config):
    """Token labels of training images, written by a teacher (token labeling, Jiang et al. 2021)."""

    out: str
    """Run folder; fine-tuning refers to it by `token_labels.labels`. The same recipe resumes the run."""
    init: str
    """Teacher: a run folder of fine-tuning or its checkpoint, timm:<name>, hf-hub:<id>, local-dir:<folder>."""
    classes: AtLeastOne = 5
    """Number of most probable classes stored per grid position (top-k)."""
    data: DataConfig = DataConfig()
    """Its training images are labeled; `image_size`, `mean` and `std` are the teacher's."""
    train: TeacherInferenceConfig = TeacherInferenceConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.data.on_corrupt == "skip":
            yield (
                "data.on_corrupt",
                "skip: every training image gets its own labels, so no other image can replace a corrupt one. Restore or remove "
                "the corrupt images, and remove the key.",
            )
        if not isinstance(self.data.image_size, int):
            yield (
                "data.image_size",
                f"{list(self.data.image_size)}: token labels require square images; give one side.",
            )
        if self.data.mean == MEASURED:
            yield (
                "data.mean",
                "measured: token labels need the numbers of the teacher. Set data.mean and data.std to them.",
            )


CONFIGS: dict[str, type[Any]] = {
    "linear": LinearConfig,
    "knn": KnnEvaluationConfig,
    "probe": ProbeConfig,
    "tokens": TokensConfig,
    "complexity": ComplexityConfig,
    "token_labels": WriteTokenLabelsConfig,
}
"""The evaluations by the name that follows `-m common.evaluation`."""
