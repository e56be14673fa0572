"""200 fake runs on a fake Ray, the study's process killed five times on the way: no run is lost, none is run twice."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from fake_ray import FakeRay
from two_hundred_runs import assert_all_run_once

from recipes.run.engine import Engine
from recipes.run.ray.engine import RayEngine
from recipes.study.ray_section import RayEntry

pytestmark = [pytest.mark.run, pytest.mark.long]


def build(folder: str, words: Sequence[str]) -> Engine:
    """Return an engine on the fake Ray in a folder, whose runs are the fake stage."""
    client = FakeRay(Path(folder))
    return RayEngine(RayEntry(), lambda job, _: [*words, *job.arguments], client, 50, poll_seconds=0.05)


def test_no_run_is_lost_or_repeated_on_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_STARTS", str(tmp_path / "starts.txt"))
    assert_all_run_once(tmp_path, build, str(tmp_path / "ray"), seed=3)
