"""Tests of DINO's loss: comparison with the paper's double loop in double precision, centering, Sinkhorn-Knopp."""

import math

import pytest
import torch

from pretrain.loss import DINOLoss, sinkhorn_knopp_teacher
from pretrain.view_cross_entropy import LogitFunctions, logit_terms, view_losses

STUDENT_TEMP, TEACHER_TEMP = 0.1, 0.04


def double_loop(student: torch.Tensor, teacher: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """Mean over the pairs i != j of H(teacher_i, student_j), as in the paper's algorithm 1."""
    total, pairs = torch.zeros((), dtype=student.dtype), 0
    for i in range(len(teacher)):
        q = torch.softmax((teacher[i] - center) / TEACHER_TEMP, dim=-1)
        for j in range(len(student)):
            if i == j:
                continue
            log_p = torch.log_softmax(student[j] / STUDENT_TEMP, dim=-1)
            total = total + (-q * log_p).sum(-1).mean()
            pairs += 1
    return total / pairs


def student_with(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a bottleneck and last-layer weights that produce these logits."""
    return logits, torch.eye(logits.shape[-1], dtype=logits.dtype)


@pytest.mark.parametrize(("teacher_views", "views"), [(2, 2), (2, 10), (2, 3), (3, 5)])
def test_loss_and_gradients_match_the_double_loop(teacher_views: int, views: int) -> None:
    torch.manual_seed(views)
    bottleneck = torch.randn(views, 6, 4, dtype=torch.double, requires_grad=True)
    weight = torch.randn(17, 4, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(teacher_views, 6, 17, dtype=torch.double)
    loss = DINOLoss(17, student_temp=STUDENT_TEMP).double()
    loss.center.copy_(0.1 * torch.randn(17))
    expected = double_loop(bottleneck @ weight.T, teacher, loss.center.clone())
    expected_gradients = torch.autograd.grad(7 * expected, (bottleneck, weight))

    parts = loss(bottleneck, weight, loss.teacher_targets(teacher, torch.tensor(TEACHER_TEMP, dtype=torch.double)))

    assert parts.loss.item() == pytest.approx(expected.item(), abs=1e-10)
    for gradient, reference in zip(
        torch.autograd.grad(7 * parts.loss, (bottleneck, weight)), expected_gradients, strict=True
    ):
        assert torch.allclose(gradient, reference, atol=1e-10, rtol=0)


def test_bf16_autocast_rounds_only_the_logits_and_their_gradients() -> None:
    torch.manual_seed(0)
    bottleneck = torch.nn.functional.normalize(torch.randn(4, 8, 16), dim=-1).requires_grad_()
    weight = torch.nn.functional.normalize(torch.randn(64, 16), dim=-1).requires_grad_()
    loss, teacher = DINOLoss(64), torch.randn(2, 8, 64)
    targets = loss.teacher_targets(teacher, torch.tensor(0.04))
    expected = loss(bottleneck, weight, targets).loss
    expected_gradients = torch.autograd.grad(expected, (bottleneck, weight))

    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss(bottleneck, weight, targets).loss

    assert rounded.dtype == torch.float32
    assert rounded.item() == pytest.approx(expected.item(), rel=2e-3)
    assert rounded.item() != expected.item()
    for gradient, reference in zip(torch.autograd.grad(rounded, (bottleneck, weight)), expected_gradients, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - reference).norm() < 0.02 * reference.norm()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_everything_but_the_logits_is_in_fp32_under_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    bottleneck, weight, q = torch.randn(4, 8, 16), torch.randn(64, 16), torch.randn(2, 8, 64).softmax(-1)

    def losses(functions: LogitFunctions) -> torch.Tensor:
        return view_losses(bottleneck, weight, q, temperature=0.1, dtype=dtype, functions=functions)

    for functions in (LogitFunctions(), LogitFunctions(torch.compile(logit_terms, backend="aot_eager"))):
        expected = losses(functions)
        with torch.autocast("cpu", dtype):
            assert torch.equal(losses(functions), expected) and expected.dtype == torch.float32


def test_loss_uses_the_current_center_and_then_updates_it() -> None:
    loss = DINOLoss(5, center_momentum=0.9).double()
    loss.center.copy_(torch.arange(5) / 10)
    old_center = loss.center.clone()
    teacher, student = torch.randn(2, 4, 5, dtype=torch.double), torch.randn(3, 4, 5, dtype=torch.double)
    expected = double_loop(student, teacher, old_center)
    parts = loss(*student_with(student), loss.teacher_targets(teacher, torch.tensor(TEACHER_TEMP)))
    assert parts.loss.item() == pytest.approx(expected.item(), abs=1e-7)
    assert torch.allclose(loss.center, 0.9 * old_center + 0.1 * teacher.flatten(0, 1).mean(0), atol=1e-12)


def test_loss_parts_distinguish_the_kinds_of_collapse() -> None:
    loss, out_dim = DINOLoss(8), 8
    uniform = loss(*student_with(torch.zeros(4, 3, 8)), loss.teacher_targets(torch.zeros(2, 3, 8), torch.tensor(0.04)))
    assert uniform.teacher_entropy.item() == pytest.approx(math.log(out_dim), abs=1e-5)
    assert uniform.kl.item() == pytest.approx(0, abs=1e-5)
    loss.center.zero_()
    one_prototype = torch.zeros(2, 3, 8)
    one_prototype[..., 2] = 10.0
    collapsed = loss(*student_with(torch.zeros(4, 3, 8)), loss.teacher_targets(one_prototype, torch.tensor(0.04)))
    assert collapsed.prototype_entropy.item() == pytest.approx(0, abs=1e-5)
    loss.center.zero_()
    spread = torch.zeros(2, 3, 8)
    spread[:, range(3), range(3)] = 10.0
    learned = loss(*student_with(torch.zeros(4, 3, 8)), loss.teacher_targets(spread, torch.tensor(0.04)))
    assert learned.teacher_entropy.item() == pytest.approx(0, abs=1e-5)
    assert learned.prototype_entropy.item() == pytest.approx(math.log(3), abs=1e-4)


def test_kl_is_loss_minus_entropy() -> None:
    loss = DINOLoss(9)
    parts = loss(*student_with(torch.randn(4, 3, 9)), loss.teacher_targets(torch.randn(2, 3, 9), torch.tensor(0.04)))
    assert parts.kl.item() == pytest.approx(parts.loss.item() - parts.teacher_entropy.item(), abs=1e-5)


def test_sinkhorn_matches_the_naive_iteration_and_balances_the_prototypes() -> None:
    torch.manual_seed(0)
    teacher = 0.1 * torch.randn(2, 64, 5, dtype=torch.double) + torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.double)
    naive = (teacher.flatten(0, 1) / TEACHER_TEMP).exp()
    for _ in range(3):
        naive = naive / naive.sum(0, keepdim=True)
        naive = naive / naive.sum(1, keepdim=True)

    q = sinkhorn_knopp_teacher(teacher, torch.tensor(TEACHER_TEMP, dtype=torch.double)).exp()

    assert torch.allclose(q.flatten(0, 1), naive, atol=1e-12)
    assert torch.allclose(q.sum(-1), torch.ones(2, 64, dtype=torch.double))
    assert torch.allclose(q.mean((0, 1)), torch.full((5,), 0.2, dtype=torch.double), atol=0.02)


def test_sinkhorn_loss_does_not_depend_on_the_center() -> None:
    student, teacher = torch.randn(4, 6, 9), torch.randn(2, 6, 9)
    loss = DINOLoss(9, centering="sinkhorn")
    first = loss(*student_with(student), loss.teacher_targets(teacher, torch.tensor(0.04))).loss
    loss.center.add_(torch.arange(9))
    assert loss(*student_with(student), loss.teacher_targets(teacher, torch.tensor(0.04))).loss.item() == pytest.approx(
        first.item(), abs=1e-6
    )
