"""Configuration of a pre-training recipe."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from common.config import Config, default_of
from common.config_types import AtLeastOne, Fraction, Positive
from common.data.augment.multi_crop import CropsConfig
from common.data.config import DataConfig
from common.evaluation.config import NeighborsConfig
from common.models.freezing import FreezeConfig, adaptation_problems
from common.models.lora import LoraConfig
from common.models.networks import ModelConfig
from common.sizes import describe_size, height_and_width
from common.training.config import TrainConfig
from common.training.optimizers import OptimConfig
from common.training.status import TeacherStatusConfig


class DinoConfig(Config):
    """Hyperparameters of DINO (Caron et al. 2021, section 3 and appendix)."""

    out_dim: Annotated[int, Field(ge=2, le=2**22)] = 65536
    """Number of prototypes K, the head's output dimension; at most about the number of images, a few hundred for a few thousand."""
    hidden_dim: Annotated[int, Field(ge=1, le=2**22)] = 2048
    """Hidden dimension of the head's MLP."""
    bottleneck_dim: Annotated[int, Field(ge=1, le=2**22)] = 256
    """Dimension of the head's bottleneck, whose output is L2-normalized."""
    head_batch_norm: bool = False
    """Whether batch norm follows each of the head's two hidden linear layers (DINO's --use_bn_in_head). Its statistics
    come from all views of a process's batch, or micro-batch."""
    norm_last_layer: bool = True
    """Fix the gain of the weight-normalized last layer at 1; false trains it, which is faster and less stable."""
    freeze_last_layer_epochs: Annotated[int, Field(ge=0)] = 1
    """Epochs at the start during which the last layer is frozen."""
    student_temp: Positive = 0.1
    """Softmax temperature of the student."""
    teacher_temp: Positive = 0.04
    """Softmax temperature of the teacher after the warm-up."""
    warmup_teacher_temp: Positive = 0.04
    """Initial softmax temperature of the teacher."""
    warmup_teacher_temp_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs of linear warm-up of the teacher temperature, updated once per epoch."""
    momentum_teacher: Fraction = 0.996
    """Momentum of the teacher's EMA at the first step."""
    momentum_teacher_end: Fraction = 1.0
    """Momentum of the teacher's EMA at the last step; cosine schedule."""
    center_momentum: Fraction = 0.9
    """Momentum of the center's EMA."""
    centering: Literal["mean", "sinkhorn"] = "mean"
    """How the teacher targets are balanced over the prototypes: mean (DINO) subtracts the center; sinkhorn (DINOv2) assigns every
    prototype an equal fraction of each batch, with 3 iterations of Sinkhorn-Knopp. In runs of a few hundred steps the center moves
    too little."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for invalid values."""
        if self.centering == "sinkhorn" and self.center_momentum != default_of(DinoConfig, "center_momentum"):
            yield (
                "center_momentum",
                f"{self.center_momentum}: centering=sinkhorn has no center. Remove the key.",
            )
        start = self.warmup_teacher_temp
        if not self.warmup_teacher_temp_epochs and start not in (
            self.teacher_temp,
            default_of(DinoConfig, "warmup_teacher_temp"),
        ):
            yield (
                "warmup_teacher_temp",
                f"{start} has no effect without a warm-up. Set dino.warmup_teacher_temp_epochs or remove the key.",
            )


class KnnConfig(NeighborsConfig):
    """k-NN evaluation of the teacher's features on the validation images during pre-training."""

    every_epochs: AtLeastOne = 10
    """Epochs between evaluations; the untrained network and the last epoch are always evaluated."""
    bank_images: AtLeastOne = 20000
    """Maximum number of training images in the feature bank."""


class PretrainConfig(Config):
    """Configuration of a pre-training run."""

    out: str
    """Run folder. The same recipe with the same folder resumes from the last checkpoint."""
    init: str | None = None
    """Initial weights of student and teacher: none, a run folder or checkpoint, a file or folder of weights as timm, DINO, DINOv2,
    DINOv3, CLIP or transformers save them, a timm name, hf-hub:<id>. The head is new."""
    model: ModelConfig = ModelConfig()
    freeze: FreezeConfig = FreezeConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    crops: CropsConfig = CropsConfig()
    dino: DinoConfig = DinoConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    knn: KnnConfig = KnnConfig()
    status: TeacherStatusConfig = TeacherStatusConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that contradict each other."""
        if self.optim.name == "sam":
            yield "optim.name", "sam is supported in fine-tuning only; set adamw or sgd for DINO."
        yield from adaptation_problems(self.freeze, self.lora)
        if self.train.evaluate_every != default_of(TrainConfig, "evaluate_every"):
            yield (
                "train.evaluate_every",
                f"{self.train.evaluate_every} is supported in fine-tuning only; set knn.every_epochs, the epochs between k-NN "
                "evaluations.",
            )
        of_view, of_image = height_and_width(self.crops.global_size), height_and_width(self.data.image_size)
        if of_view[0] > of_image[0] or of_view[1] > of_image[1]:
            of_crops, of_images = describe_size(self.crops.global_size), describe_size(self.data.image_size)
            yield (
                "crops.global_size",
                f"{of_crops} is larger than data.image_size = {of_images}, the size at which features are evaluated. Use at most "
                "that.",
            )
        patch = None if any(self.model.problems()) else self.model.patch()
        of_network = f"{patch}, the patch size of {self.model.name}"
        words = f"model.patch_size = {patch}" if self.model.patch_size else of_network
        sizes = [("global_size", self.crops.global_size)]
        if self.crops.num_local:
            sizes.append(("local_size", self.crops.local_size))
        for name, size in sizes:
            fitting = [side // patch * patch or patch for side in height_and_width(size)] if patch else []
            if patch and tuple(fitting) != height_and_width(size):
                yield (
                    f"crops.{name}",
                    f"{describe_size(size)} is not a multiple of {words}. Try"
                    f" {fitting[0] if isinstance(size, int) else fitting}.",
                )
