"""Owns the keys of a pre-training recipe."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from common.data.augment.multi_crop import ViewsConfig
from common.data.config import DataConfig
from common.evaluation.config import NeighboursConfig
from common.models.networks import ModelConfig
from common.training.config import TrainConfig
from common.training.optimizers import OptimConfig
from common.training.status import TeacherVerdictConfig

_MOST_CODES = 2**22


@dataclass(frozen=True, kw_only=True)
class DinoConfig:
    """DINO's own numbers (Caron et al. 2021, section 3 and appendix)."""

    outputs: int = 65536
    """Codes of the head, K. About the number of images at most: a few hundred suit a few thousand images."""
    hidden_dim: int = 2048
    """Width of the head's MLP."""
    bottleneck_dim: int = 256
    """Width of the head's bottleneck, on which its features are L2-normalised."""
    norm_last_layer: bool = True
    """Whether the last layer's gain stays at 1; false learns it, faster and less stable."""
    freeze_last_layer_epochs: int = 1
    """Epochs at the start in which the last layer is not trained."""
    student_temperature: float = 0.1
    """Softmax temperature of the student."""
    teacher_temperature: float = 0.04
    """Softmax temperature of the teacher after its warm-up."""
    teacher_temperature_start: float = 0.04
    """Softmax temperature of the teacher at the start."""
    teacher_temperature_warmup_epochs: int = 0
    """Epochs over which the teacher's temperature goes from its start to its final value, a step each epoch."""
    teacher_momentum: float = 0.996
    """Momentum of the teacher's moving average at the first step."""
    teacher_momentum_end: float = 1.0
    """Momentum of the teacher's moving average at the last step, reached on a cosine."""
    center_momentum: float = 0.9
    """Momentum of the centre's moving average."""
    centering: Literal["mean", "sinkhorn"] = "mean"
    """How the teacher's codes are kept in balance: mean, DINO's own, subtracts the centre; sinkhorn, DINOv2's, gives each code
    an equal share of every batch (3 rounds of Sinkhorn-Knopp). A centre moves too little in a run of few hundred steps."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        for name in ("outputs", "hidden_dim", "bottleneck_dim"):
            if getattr(self, name) < 1:
                yield name, f"{getattr(self, name)} must be at least 1."
            elif getattr(self, name) > _MOST_CODES:
                yield name, f"{getattr(self, name)} must be at most {_MOST_CODES}."
        for name in ("student_temperature", "teacher_temperature", "teacher_temperature_start"):
            if getattr(self, name) <= 0:
                yield name, f"{getattr(self, name)} must be above 0."
        for name in ("teacher_momentum", "teacher_momentum_end", "center_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, f"{getattr(self, name)} must lie in [0, 1]."
        if self.centering == "sinkhorn" and self.center_momentum != DinoConfig.center_momentum:
            yield (
                "center_momentum",
                f"{self.center_momentum}: there is no centre with centering=sinkhorn. Leave the key out.",
            )
        start = self.teacher_temperature_start
        if not self.teacher_temperature_warmup_epochs and start not in (
            self.teacher_temperature,
            DinoConfig.teacher_temperature_start,
        ):
            yield (
                "teacher_temperature_start",
                f"{start} is where a warm-up begins, and there is none. Set dino.teacher_temperature_warmup_epochs, or leave the "
                "key out.",
            )


@dataclass(frozen=True, kw_only=True)
class KnnConfig(NeighboursConfig):
    """The look at the teacher's features while it trains: k-NN on the validation images."""

    every_epochs: int = 10
    """Epochs between looks; the untrained network and the last epoch are always looked at."""
    bank_images: int = 20000
    """Training images at most that serve as neighbours."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        yield from super().problems()
        if self.every_epochs < 1:
            yield "every_epochs", f"{self.every_epochs} must be at least 1."


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """A pre-training recipe."""

    out: str
    """Run folder. The same recipe with the same folder goes on where it stopped."""
    init: str | None = None
    """What the network starts from: none, a run folder, a .safetensors file, a timm name, hf-hub:<id>."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    dino: DinoConfig = field(default_factory=DinoConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    knn: KnnConfig = field(default_factory=KnnConfig)
    verdict: TeacherVerdictConfig = field(default_factory=TeacherVerdictConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for sections that do not fit each other."""
        if self.optim.name == "sam":
            yield "optim.name", "sam is for fine-tuning; DINO is pre-trained with adamw or sgd."
        if self.optim.layer_decay != 1:
            yield "optim.layer_decay", f"{self.optim.layer_decay} is for fine-tuning; DINO is pre-trained with 1."
        if self.train.evaluate_every != TrainConfig.evaluate_every:
            yield (
                "train.evaluate_every",
                f"{self.train.evaluate_every} is for fine-tuning; the epochs between looks at the teacher's features are "
                "knn.every_epochs.",
            )
        if self.views.global_size != self.data.image_size:
            yield (
                "views.global_size",
                f"{self.views.global_size} and data.image_size = {self.data.image_size} must be equal: the features are judged "
                "at the size of the global views.",
            )
        patch = self.model.patch_size
        sizes = [("global_size", self.views.global_size)]
        if self.views.local_count:
            sizes.append(("local_size", self.views.local_size))
        for name, size in sizes:
            if patch and size % patch:
                yield (
                    f"views.{name}",
                    f"{size} is no multiple of model.patch_size = {patch}; {size // patch * patch or patch} is.",
                )
