"""Build DINO from a recipe and export the trained teacher."""

from pathlib import Path
from typing import Any

from common.data.splits.roles import Splits
from common.errors import UserError
from common.models.export import export_network
from common.models.freezing import adapt_network, is_trained
from common.models.networks import build_network
from common.models.weights import load_init
from pretrain.config import PretrainConfig
from pretrain.head import DINOHead
from pretrain.loss import DINOLoss
from pretrain.method import DINO


def build_dino(config: PretrainConfig) -> DINO:
    """Build the student, teacher, projection heads and loss of a recipe. Seed torch's generator first."""
    images: dict[str, Any] = {"image_size": config.data.image_size, "in_chans": config.data.channels}
    student = build_network(config.model, **images, num_classes=0, multi_crop=True)
    if config.init is not None:
        load_init(student, config.init)
    without_drop_path = config.model.model_copy(update={"drop_path": 0.0})
    teacher = build_network(without_drop_path, **images, num_classes=0, multi_crop=True)
    for network in (student, teacher):
        adapt_network(network, config.freeze, config.lora)
    if not is_trained(student):
        raise UserError(
            "freeze: freezes the whole network, so that DINO would train its head only. Set fewer freeze.blocks, or "
            "freeze.embeddings=false."
        )
    dino = config.dino
    head = DINOHead(
        student.num_features,
        dino.out_dim,
        hidden_dim=dino.hidden_dim,
        bottleneck_dim=dino.bottleneck_dim,
        norm_last_layer=dino.norm_last_layer,
        batch_norm=dino.head_batch_norm,
    )
    loss = DINOLoss(
        dino.out_dim,
        student_temp=dino.student_temp,
        center_momentum=dino.center_momentum,
        centering=dino.centering,
    )
    return DINO(student, teacher, head, loss)


def export_teacher(dino: DINO, config: PretrainConfig, splits: Splits, metrics: dict[str, float], folder: Path) -> None:
    """Export the teacher's backbone as a folder that timm and the fine-tuning stage load."""
    mean, std = config.data.statistics()
    export_network(
        dino.teacher,
        folder,
        model_name=config.model.name,
        class_names=list(splits.class_names),
        mean=mean,
        std=std,
        image_size=config.data.image_size,
        images=config.data.describe_images(),
        metrics=metrics,
        crop_pct=config.knn.crop_pct,
    )
