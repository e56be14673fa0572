"""DINO's loss against the paper's double loop, in double precision."""

import math

import pytest
import torch

from pretrain.loss import DINOLoss, balance_codes

STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.04


def double_loop(student: torch.Tensor, teacher: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """Mean over the pairs i != j of H(teacher_i, student_j), as the paper's algorithm 1 writes it."""
    total, pairs = torch.zeros((), dtype=student.dtype), 0
    for i in range(len(teacher)):
        q = torch.softmax((teacher[i] - center) / TEACHER_TEMPERATURE, dim=-1)
        for j in range(len(student)):
            if i == j:
                continue
            log_p = torch.log_softmax(student[j] / STUDENT_TEMPERATURE, dim=-1)
            total = total + (-q * log_p).sum(-1).mean()
            pairs += 1
    return total / pairs


def student_of(scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A bottleneck and weights of a last layer that give these scores."""
    return scores, torch.eye(scores.shape[-1], dtype=scores.dtype)


@pytest.mark.parametrize(("teacher_views", "views"), [(2, 2), (2, 10), (2, 3), (3, 5)])
def test_loss_and_gradients_match_the_double_loop(teacher_views: int, views: int) -> None:
    torch.manual_seed(views)
    bottleneck = torch.randn(views, 6, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(17, 4, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(teacher_views, 6, 17, dtype=torch.double)
    loss = DINOLoss(17, student_temperature=STUDENT_TEMPERATURE).double()
    loss.center.copy_(0.1 * torch.randn(17))
    expected = double_loop(bottleneck @ weight.T, teacher, loss.center.clone())
    expected_gradients = torch.autograd.grad(7 * expected, (bottleneck, weight))

    parts = loss(bottleneck, weight, loss.codes(teacher, torch.tensor(TEACHER_TEMPERATURE, dtype=torch.double)))

    assert parts.loss.item() == pytest.approx(expected.item(), abs=1e-10)
    for gradient, right in zip(
        torch.autograd.grad(7 * parts.loss, (bottleneck, weight)), expected_gradients, strict=True
    ):
        assert torch.allclose(gradient, right, atol=1e-10, rtol=0)


def test_under_bf16_autocast_only_the_scores_and_their_gradients_are_rounded() -> None:
    torch.manual_seed(0)
    bottleneck = torch.nn.functional.normalize(torch.randn(4, 8, 16), dim=-1).requires_grad_()
    weight = torch.nn.functional.normalize(torch.randn(64, 16), dim=-1).requires_grad_()
    loss, teacher = DINOLoss(64), torch.randn(2, 8, 64)
    codes = loss.codes(teacher, torch.tensor(0.04))
    expected = loss(bottleneck, weight, codes).loss
    expected_gradients = torch.autograd.grad(expected, (bottleneck, weight))

    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss(bottleneck, weight, codes).loss

    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(expected.item(), rel=2e-3)
    assert rounded.item() != expected.item()
    for gradient, right in zip(torch.autograd.grad(rounded, (bottleneck, weight)), expected_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - right).norm() < 0.02 * right.norm()


def test_loss_uses_the_old_centre_and_then_moves_it() -> None:
    loss = DINOLoss(5, center_momentum=0.9).double()
    loss.center.copy_(torch.arange(5) / 10)
    old = loss.center.clone()
    teacher, student = torch.randn(2, 4, 5, dtype=torch.double), torch.randn(3, 4, 5, dtype=torch.double)
    expected = double_loop(student, teacher, old)
    parts = loss(*student_of(student), loss.codes(teacher, torch.tensor(TEACHER_TEMPERATURE)))
    assert parts.loss.item() == pytest.approx(expected.item(), abs=1e-7)
    assert torch.allclose(loss.center, 0.9 * old + 0.1 * teacher.flatten(0, 1).mean(0), atol=1e-12)


def test_parts_tell_the_collapses_apart() -> None:
    loss, outputs = DINOLoss(8), 8
    uniform = loss(*student_of(torch.zeros(4, 3, 8)), loss.codes(torch.zeros(2, 3, 8), torch.tensor(0.04)))
    assert uniform.teacher_entropy.item() == pytest.approx(math.log(outputs), abs=1e-5)
    assert uniform.kl.item() == pytest.approx(0, abs=1e-5)
    loss.center.zero_()
    one_code = torch.zeros(2, 3, 8)
    one_code[..., 2] = 10.0
    collapsed = loss(*student_of(torch.zeros(4, 3, 8)), loss.codes(one_code, torch.tensor(0.04)))
    assert collapsed.code_entropy.item() == pytest.approx(0, abs=1e-5)
    loss.center.zero_()
    spread = torch.zeros(2, 3, 8)
    spread[:, range(3), range(3)] = 10.0
    learnt = loss(*student_of(torch.zeros(4, 3, 8)), loss.codes(spread, torch.tensor(0.04)))
    assert learnt.teacher_entropy.item() == pytest.approx(0, abs=1e-5)
    assert learnt.code_entropy.item() == pytest.approx(math.log(3), abs=1e-4)


def test_kl_is_loss_less_entropy() -> None:
    loss = DINOLoss(9)
    parts = loss(*student_of(torch.randn(4, 3, 9)), loss.codes(torch.randn(2, 3, 9), torch.tensor(0.04)))
    assert parts.kl.item() == pytest.approx(parts.loss.item() - parts.teacher_entropy.item(), abs=1e-5)


def test_sinkhorn_matches_the_plain_iteration_and_balances_the_codes() -> None:
    torch.manual_seed(0)
    teacher = 0.1 * torch.randn(2, 64, 5, dtype=torch.double) + torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.double)
    plain = (teacher.flatten(0, 1) / TEACHER_TEMPERATURE).exp()
    for _ in range(3):
        plain = plain / plain.sum(0, keepdim=True)
        plain = plain / plain.sum(1, keepdim=True)

    q = balance_codes(teacher, torch.tensor(TEACHER_TEMPERATURE, dtype=torch.double)).exp()

    assert torch.allclose(q.flatten(0, 1), plain, atol=1e-12)
    assert torch.allclose(q.sum(-1), torch.ones(2, 64, dtype=torch.double))
    assert torch.allclose(q.mean((0, 1)), torch.full((5,), 0.2, dtype=torch.double), atol=0.02)


def test_sinkhorn_loss_does_not_depend_on_the_centre() -> None:
    student, teacher = torch.randn(4, 6, 9), torch.randn(2, 6, 9)
    loss = DINOLoss(9, centering="sinkhorn")
    first = loss(*student_of(student), loss.codes(teacher, torch.tensor(0.04))).loss
    loss.center.add_(torch.arange(9))
    assert loss(*student_of(student), loss.codes(teacher, torch.tensor(0.04))).loss.item() == pytest.approx(
        first.item(), abs=1e-6
    )
