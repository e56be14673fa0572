"""Estimated durations of runs: by runs of the same stage, else by planned MACs."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from recipes.run.remaining import Finished, expected_seconds
from recipes.study.plan import PlannedRun

RunOf = Callable[..., PlannedRun]


def test_without_a_run_of_its_stage_macs_at_the_highest_rate_tell(run_of: RunOf) -> None:
    pretrain = replace(run_of("pretrain"), macs=8e9)
    tuned = replace(run_of("finetune", training="OST"), macs=4e9)
    assert expected_seconds(tuned, []) is None
    assert expected_seconds(tuned, [Finished(pretrain, 80.0)]) == pytest.approx(30.0 + 40.0)
    assert expected_seconds(tuned, [Finished(pretrain, 8000.0)]) == pytest.approx(30.0 + 4000.0)
    quick = replace(run_of("finetune"), stage="baselines", macs=1e6)
    assert expected_seconds(tuned, [Finished(pretrain, 80.0), Finished(quick, 4.0)]) == pytest.approx(4.0 + 40.0)


def test_baselines_and_runs_of_unknown_macs_tell_nothing(run_of: RunOf) -> None:
    baseline = replace(run_of("finetune"), stage="baselines", macs=1e6)
    run = replace(run_of("finetune", training="OST"), macs=4e9)
    assert expected_seconds(run, [Finished(baseline, 4.0)]) is None
    assert expected_seconds(run, [Finished(run_of("pretrain"), 80.0)]) is None
    assert expected_seconds(replace(run, macs=None), [Finished(replace(baseline, stage="pretrain"), 80.0)]) is None


def test_the_most_similar_runs_of_the_stage_tell_in_proportion_to_macs(run_of: RunOf) -> None:
    levels = {"stem": "conv", "training": "OST", "seed": "0"}
    near, run = (run_of("finetune", fraction=fraction, **levels) for fraction in ("0.5", "1"))
    far = run_of("finetune", stem="patchify", training="TST", fraction="0.1", seed="1")
    assert expected_seconds(run, [Finished(near, 10.0), Finished(far, 50.0)]) == 10.0
    known = [Finished(replace(near, macs=2e9), 10.0), Finished(replace(far, macs=1e9), 50.0)]
    assert expected_seconds(replace(run, macs=6e9), known) == pytest.approx(30.0)
    baselines = [Finished(replace(each.run, stage="baselines"), each.seconds) for each in known]
    assert expected_seconds(replace(run, macs=6e9, stage="baselines"), baselines) == 10.0
