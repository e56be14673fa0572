"""Configuration of a pre-training recipe."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from common.data.augment.multi_crop import CropsConfig
from common.data.config import DataConfig
from common.evaluation.config import NeighborsConfig
from common.models.networks import ModelConfig
from common.training.config import TrainConfig
from common.training.optimizers import OptimConfig
from common.training.status import TeacherStatusConfig

_MAX_DIM = 2**22


@dataclass(frozen=True, kw_only=True)
class DinoConfig:
    """Hyperparameters of DINO (Caron et al. 2021, section 3 and appendix)."""

    out_dim: int = 65536
    """Number of prototypes K, the head's output dimension; at most about the number of images, a few hundred for a few thousand."""
    hidden_dim: int = 2048
    """Hidden dimension of the head's MLP."""
    bottleneck_dim: int = 256
    """Dimension of the head's bottleneck, whose output is L2-normalized."""
    norm_last_layer: bool = True
    """Fix the gain of the weight-normalized last layer at 1; false trains it, which is faster and less stable."""
    freeze_last_layer_epochs: int = 1
    """Epochs at the start during which the last layer is frozen."""
    student_temp: float = 0.1
    """Softmax temperature of the student."""
    teacher_temp: float = 0.04
    """Softmax temperature of the teacher after the warm-up."""
    warmup_teacher_temp: float = 0.04
    """Initial softmax temperature of the teacher."""
    warmup_teacher_temp_epochs: int = 0
    """Epochs of linear warm-up of the teacher temperature, updated once per epoch."""
    momentum_teacher: float = 0.996
    """Momentum of the teacher's EMA at the first step."""
    momentum_teacher_end: float = 1.0
    """Momentum of the teacher's EMA at the last step; cosine schedule."""
    center_momentum: float = 0.9
    """Momentum of the center's EMA."""
    centering: Literal["mean", "sinkhorn"] = "mean"
    """How the teacher targets are balanced over the prototypes: mean (DINO) subtracts the center; sinkhorn (DINOv2) assigns every
    prototype an equal fraction of each batch, with 3 iterations of Sinkhorn-Knopp. In runs of a few hundred steps the center moves
    too little."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for invalid values."""
        for name in ("out_dim", "hidden_dim", "bottleneck_dim"):
            if getattr(self, name) < 1:
                yield name, f"{getattr(self, name)} must be at least 1."
            elif getattr(self, name) > _MAX_DIM:
                yield name, f"{getattr(self, name)} must be at most {_MAX_DIM}."
        for name in ("student_temp", "teacher_temp", "warmup_teacher_temp"):
            if getattr(self, name) <= 0:
                yield name, f"{getattr(self, name)} must be above 0."
        for name in ("momentum_teacher", "momentum_teacher_end", "center_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, f"{getattr(self, name)} must lie in [0, 1]."
        if self.centering == "sinkhorn" and self.center_momentum != DinoConfig.center_momentum:
            yield (
                "center_momentum",
                f"{self.center_momentum}: centering=sinkhorn has no center. Remove the key.",
            )
        start = self.warmup_teacher_temp
        if not self.warmup_teacher_temp_epochs and start not in (
            self.teacher_temp,
            DinoConfig.warmup_teacher_temp,
        ):
            yield (
                "warmup_teacher_temp",
                f"{start} has no effect without a warm-up. Set dino.warmup_teacher_temp_epochs or remove the key.",
            )


@dataclass(frozen=True, kw_only=True)
class KnnConfig(NeighborsConfig):
    """k-NN evaluation of the teacher's features on the validation images during pre-training."""

    every_epochs: int = 10
    """Epochs between evaluations; the untrained network and the last epoch are always evaluated."""
    bank_images: int = 20000
    """Maximum number of training images in the feature bank."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for invalid values."""
        yield from super().problems()
        if self.every_epochs < 1:
            yield "every_epochs", f"{self.every_epochs} must be at least 1."


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Configuration of a pre-training run."""

    out: str
    """Run folder. The same recipe with the same folder resumes from the last checkpoint."""
    init: str | None = None
    """Initial weights: none, a run folder, a .safetensors file, a timm name, hf-hub:<id>."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    crops: CropsConfig = field(default_factory=CropsConfig)
    dino: DinoConfig = field(default_factory=DinoConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)
    status: TeacherStatusConfig = field(default_factory=TeacherStatusConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that contradict each other."""
        if self.optim.name == "sam":
            yield "optim.name", "sam is supported in fine-tuning only; set adamw or sgd for DINO."
        if self.optim.layer_decay != 1:
            yield "optim.layer_decay", f"{self.optim.layer_decay} is supported in fine-tuning only; set 1 for DINO."
        if self.train.evaluate_every != TrainConfig.evaluate_every:
            yield (
                "train.evaluate_every",
                f"{self.train.evaluate_every} is supported in fine-tuning only; set knn.every_epochs, the epochs between k-NN "
                "evaluations.",
            )
        if self.crops.global_size != self.data.image_size:
            yield (
                "crops.global_size",
                f"{self.crops.global_size} must equal data.image_size = {self.data.image_size}: the features are evaluated at the "
                "size of the global crops.",
            )
        patch = self.model.patch_size
        sizes = [("global_size", self.crops.global_size)]
        if self.crops.num_local:
            sizes.append(("local_size", self.crops.local_size))
        for name, size in sizes:
            if patch and size % patch:
                yield (
                    f"crops.{name}",
                    f"{size} is not a multiple of model.patch_size = {patch}. Try {size // patch * patch or patch}.",
                )
