"""Compute cost of a pre-training against a count by hand."""

from common.data.augment.multi_crop import CropsConfig
from common.data.config import DataConfig
from common.models.complexity import measure
from common.models.freezing import FreezeConfig, adapt_network
from common.models.lora import LoraConfig
from common.models.networks import ModelConfig, build_network
from common.training.config import TrainConfig
from pretrain.config import DinoConfig, PretrainConfig
from pretrain.cost import DINOComplexity, dino_complexity, training_cost


def test_the_cost_is_every_pass_of_student_and_teacher_through_backbone_and_head() -> None:
    config = PretrainConfig(
        out="runs/x",
        model=ModelConfig(name="vit_mini", patch_size=4),
        data=DataConfig(image_size=12),
        crops=CropsConfig(global_size=12, local_size=8, num_global=2, num_local=3),
        dino=DinoConfig(out_dim=50, hidden_dim=20, bottleneck_dim=10),
        train=TrainConfig(epochs=3, batch_size=20),
    )
    complexity = dino_complexity(config)
    assert complexity.local_view is not None
    backbone, small = complexity.global_view.macs, complexity.local_view.macs
    head = 64 * 20 + 20 * 20 + 20 * 10 + 10 * 50  # the three layers of the MLP and the prototypes; 64 features
    student = 3 * (2 * (backbone + head) + 3 * (small + head))  # a backward pass costs twice the forward pass
    teacher = 2 * (backbone + head)
    cost = training_cost(config, num_images=90)
    assert (cost.steps, cost.images) == (12, 240)
    assert cost.macs == 240 * (student + teacher)


def test_frozen_parts_save_their_gradients_and_updates_cost_the_teacher_too() -> None:
    model, crops = ModelConfig(name="vit_mini", patch_size=4), CropsConfig(global_size=12, num_global=2, num_local=0)
    for freeze, lora in ((FreezeConfig(embeddings=True, blocks=2), LoraConfig()), (FreezeConfig(), LoraConfig(rank=2))):
        config = PretrainConfig(
            out="x",
            model=model,
            freeze=freeze,
            lora=lora,
            data=DataConfig(image_size=12),
            crops=crops,
            dino=DinoConfig(out_dim=50, hidden_dim=20, bottleneck_dim=10),
            train=TrainConfig(epochs=1, batch_size=20),
        )
        network = build_network(model, image_size=12, num_classes=0)
        adapt_network(network, freeze, lora)
        part = measure(network, 12)
        head = 64 * 20 + 20 * 20 + 20 * 10 + 10 * 50
        assert part.backward_macs < 2 * part.macs
        student, teacher = 2 * (part.macs + part.backward_macs + 3 * head), 2 * (part.macs + head)
        assert training_cost(config, num_images=20).macs_per_image == student + teacher


def test_global_views_smaller_than_the_images_cost_less_and_leave_the_network_as_it_is() -> None:
    def complexity(global_size: int) -> DINOComplexity:
        return dino_complexity(
            PretrainConfig(
                out="x",
                model=ModelConfig(name="vit_mini", patch_size=4),
                data=DataConfig(image_size=16),
                crops=CropsConfig(global_size=global_size, num_local=0),
            )
        )

    smaller, network = (
        complexity(8).global_view,
        build_network(ModelConfig(name="vit_mini", patch_size=4), image_size=8, num_classes=0),
    )
    assert smaller.macs == measure(network, 8).macs
    assert smaller.parameters == complexity(16).global_view.parameters
