"""Tests of statuses: the teacher's collapse, and the ranges of all thresholds."""

import math
from typing import Any

import pytest
from conftest import problems_of

from common.training.status import RunStatus, SupervisedStatusConfig, TeacherStatusConfig, teacher_status


@pytest.mark.parametrize(
    ("entropy", "kl", "prototype_entropy", "status"),
    [
        (1.000, 1e-4, 1.0, RunStatus.COLLAPSED_UNIFORM),
        (1.000, 0.5, 1.0, RunStatus.FINISHED),
        (0.6, 1e-4, 1.0, RunStatus.FINISHED),
        (0.001, 1e-4, 0.001, RunStatus.COLLAPSED_ONE_PROTOTYPE),
        (0.001, 0.3, 0.8, RunStatus.FINISHED),
    ],
)
def test_the_teachers_status_depends_on_fractions_of_ln_k(
    entropy: float, kl: float, prototype_entropy: float, status: RunStatus
) -> None:
    max_entropy = math.log(512)
    means = {"entropy": entropy * max_entropy, "kl": kl, "prototype_entropy": prototype_entropy * max_entropy}
    outcome = teacher_status(TeacherStatusConfig(), **means, out_dim=512)
    assert outcome.status is status and outcome.complete and outcome.kind is None


def test_the_thresholds_of_a_collapse_are_options() -> None:
    means = {"entropy": 0.9 * math.log(512), "kl": 0.05, "prototype_entropy": 0.04 * math.log(512)}
    loose = TeacherStatusConfig(uniform_share=0.8, uniform_kl=0.1)
    assert teacher_status(loose, **means, out_dim=512).status is RunStatus.COLLAPSED_UNIFORM
    loose = TeacherStatusConfig(one_prototype_share=0.1)
    assert teacher_status(loose, **means, out_dim=512).status is RunStatus.COLLAPSED_ONE_PROTOTYPE


@pytest.mark.parametrize("cls", [SupervisedStatusConfig, TeacherStatusConfig])
def test_every_threshold_out_of_range_is_named(cls: Any) -> None:
    names = set(cls.model_fields) - {"stop"}
    assert problems_of(cls, **dict.fromkeys(names, -1)).keys() == names
    assert not problems_of(cls)
