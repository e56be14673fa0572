"""Tests of the DINO module: gradients, EMA of the teacher, the head's last layer, micro-batches."""

import copy

import pytest
import torch
from torch import nn

from pretrain.head import DINOHead
from pretrain.loss import DINOLoss, LossParts
from pretrain.method import DINO


class Backbone(nn.Module):
    """Mean color, batch norm and a linear layer: works for any view size and has running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(images.mean((2, 3))))


@pytest.fixture
def dino() -> DINO:
    torch.manual_seed(0)
    return DINO(Backbone(), Backbone(), DINOHead(8, 12, hidden_dim=16, bottleneck_dim=4), DINOLoss(12))


def views() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 5, 3, 8, 8, generator=generator), torch.randn(3, 5, 3, 4, 4, generator=generator)]


def loss_parts(dino: DINO, blocks: list[torch.Tensor]) -> LossParts:
    return dino(blocks, dino.teacher_targets(blocks[0], torch.tensor(0.04)))


def test_teacher_starts_equal_to_the_student_and_gets_no_gradient(dino: DINO) -> None:
    for teacher, student in zip(dino.teacher.parameters(), dino.student.parameters(), strict=True):
        assert torch.equal(teacher, student)
    loss_parts(dino, views()).loss.backward()
    assert all(parameter.grad is None for parameter in dino.teacher.parameters())
    assert all(parameter.grad is not None for parameter in dino.student.parameters())


def test_teacher_is_an_ema_of_the_student(dino: DINO) -> None:
    before = copy.deepcopy(dino.teacher.state_dict())
    with torch.no_grad():
        dino.student.linear.weight.add_(1.0)
    dino.update_teacher(0.75)
    expected = 0.75 * before["linear.weight"] + 0.25 * dino.student.linear.weight
    assert torch.allclose(dino.teacher.linear.weight, expected, atol=1e-6)


def test_ema_covers_parameters_only(dino: DINO) -> None:
    loss_parts(dino, views())
    running_mean = dino.teacher.norm.running_mean.clone()
    assert not torch.equal(running_mean, dino.student.norm.running_mean)  # the student also processed the local views
    dino.update_teacher(0.0)
    assert torch.equal(dino.teacher.norm.running_mean, running_mean)


def test_last_layer_has_unit_norm_rows_and_a_fixed_gain(dino: DINO) -> None:
    assert torch.allclose(dino.student_head.last_layer.weight.norm(dim=1), torch.ones(12), atol=1e-6)
    assert not dino.student_head.last_layer.parametrizations["weight"].original0.requires_grad
    trainable = DINOHead(8, 12, hidden_dim=16, bottleneck_dim=4, norm_last_layer=False)
    assert trainable.last_layer.parametrizations["weight"].original0.requires_grad


def test_head_outputs_are_cosine_similarities(dino: DINO) -> None:
    logits = dino.student_head(torch.randn(64, 8) * 100)
    assert logits.abs().max() <= 1 + 1e-5


def test_freezing_drops_only_the_last_layers_gradient(dino: DINO) -> None:
    loss_parts(dino, views()).loss.backward()
    dino.freeze_last_layer()
    assert all(parameter.grad is None for parameter in dino.student_head.last_layer.parameters())
    assert all(parameter.grad is not None for parameter in dino.student_head.mlp.parameters())


def test_one_forward_per_resolution_covers_every_view(dino: DINO) -> None:
    """The module's loss equals that of heads and backbones called separately."""
    dino.eval()
    blocks = views()
    with torch.no_grad():
        teacher = dino.teacher_head(dino.teacher(blocks[0].flatten(0, 1))).view(2, 5, 12)
        bottleneck = torch.cat(
            [dino.student_head.project(dino.student(block.flatten(0, 1))).view(len(block), 5, 4) for block in blocks]
        )
        loss = DINOLoss(12)
        expected = loss(
            bottleneck, dino.student_head.last_layer.weight, loss.teacher_targets(teacher, torch.tensor(0.04))
        ).loss
        assert loss_parts(dino, blocks).loss.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("centering", ["mean", "sinkhorn"])
def test_teacher_targets_of_micro_batches_match_the_full_batch(dino: DINO, centering: str) -> None:
    dino.teacher.norm.eval()  # otherwise batch norm would use micro-batch statistics
    split = copy.deepcopy(dino)
    dino.loss.centering = split.loss.centering = centering
    expected = dino.teacher_targets(views()[0], torch.tensor(0.04))
    targets = split.teacher_targets(views()[0], torch.tensor(0.04), micro_batch_size=2)
    assert torch.allclose(expected.log_q_GBK, targets.log_q_GBK, atol=1e-5)
    assert torch.allclose(dino.loss.center, split.loss.center, atol=1e-7)
    assert torch.equal(targets.select(slice(2, 4)).log_q_GBK, targets.log_q_GBK[:, 2:4])


def test_frozen_parameters_stay_equal_in_student_and_teacher() -> None:
    torch.manual_seed(0)
    student, teacher = Backbone(), Backbone()
    student.linear.weight.requires_grad_(False)
    dino = DINO(student, teacher, DINOHead(8, 12, hidden_dim=16, bottleneck_dim=4), DINOLoss(12))
    with torch.no_grad():
        student.linear.bias.add_(1.0)
    before = teacher.linear.bias.clone()
    dino.update_teacher(0.9)
    assert torch.equal(teacher.linear.weight, student.linear.weight)
    torch.testing.assert_close(teacher.linear.bias, before + 0.1)
