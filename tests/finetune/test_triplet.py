"""Tests of the triplet loss: a naive loop, the margin, its gradient where features meet, two processes against one."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from finetune.triplet import batch_hard_triplet

PROCESSES = """
import torch, torch.distributed as distributed
from finetune.triplet import batch_hard_triplet, triplet_over_processes
distributed.init_process_group("gloo")
draws = torch.Generator().manual_seed(0)
images, weight = torch.randn(8, 5, generator=draws), torch.randn(5, 3, generator=draws)
labels = torch.arange(8) // 2
whole = weight.clone().requires_grad_()
expected = batch_hard_triplet(images @ whole, labels, margin=None)
expected.backward()
mine, rows = weight.clone().requires_grad_(), slice(4 * distributed.get_rank(), 4 * distributed.get_rank() + 4)
loss = triplet_over_processes(images[rows] @ mine, labels[rows], margin=None)
loss.backward()
distributed.all_reduce(mine.grad)
torch.testing.assert_close(loss, expected)
torch.testing.assert_close(mine.grad / 2, whole.grad)
"""


def naive(features, labels, margin):
    losses = []
    for anchor, mine in zip(features, labels, strict=True):
        distances = [math.dist(anchor.tolist(), other.tolist()) for other in features]
        positive = max(d for d, label in zip(distances, labels, strict=True) if label == mine)
        negative = min(d for d, label in zip(distances, labels, strict=True) if label != mine)
        gap = positive - negative
        losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
def test_batch_hard_mining_is_the_naive_loop(margin):
    draws = torch.Generator().manual_seed(1)
    features, labels = torch.randn(12, 6, generator=draws), torch.arange(12) // 4
    expected = naive(features, labels.tolist(), margin)
    assert float(batch_hard_triplet(features, labels, margin=margin)) == pytest.approx(expected, rel=1e-4)


def test_features_that_meet_have_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=None)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2)) and torch.isfinite(features.grad).all()


def test_half_precision_features_are_measured_in_float32():
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    loss = batch_hard_triplet(features.bfloat16(), torch.arange(8) // 2, margin=None)
    assert loss.dtype == torch.float32


def test_two_processes_mine_the_whole_batch(tmp_path: Path):
    script = tmp_path / "processes.py"
    script.write_text(PROCESSES)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
