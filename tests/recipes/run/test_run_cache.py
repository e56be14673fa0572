"""Cache of runs: a study does not repeat the runs of its neighbors."""

import copy
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from recipes.run.engines import LocalSlots
from recipes.run.run_cache import check_links, link_shared_runs, locate_runs
from recipes.run.runner import StudyRunner
from recipes.run.states import read_state
from recipes.study.plan import Plan, Resolver, make_plan
from recipes.study.specification import Study
from recipes.study.study_file import build_study


@pytest.fixture
def other(study: Study, echo_config: Resolver) -> Plan:
    """Return a study of another name that shares some of its cells with `study`."""
    mapping: dict[str, Any] = copy.deepcopy(dict(study.mapping)) | {"name": "another"}
    mapping["axes"]["fraction"]["values"] = [0.25, 0.75]
    return make_plan(build_study(mapping, "another.yaml"), echo_config)


def link(plan: Plan, folder: Path) -> list[str]:
    return link_shared_runs(locate_runs(plan.runs, folder)[0], folder)


def test_finished_runs_of_a_neighbor_are_linked_and_not_run_again(
    study_folder: Path,
    other: Plan,
    fake_stage: Callable[..., list[str]],
    slots: Callable[[int], LocalSlots],
) -> None:
    plan, folder = other, study_folder.parent / "another"
    linked = link(plan, folder)
    assert len(linked) == 6 + 12
    outcome = StudyRunner(plan.runs, folder / "runs", slots(2), lambda line: None, "test_top1").run()
    assert outcome.exit_code == 0
    assert len(fake_stage()) == len(plan.runs) - len(linked) == 12
    assert all(read_state(folder / "runs" / run.id) == "done" for run in plan.runs)


def test_links_follow_the_folders_when_both_are_moved(study_folder: Path, other: Plan) -> None:
    plan, folder = other, study_folder.parent / "another"
    linked = link(plan, folder)
    moved = study_folder.parent / "elsewhere"
    moved.mkdir()
    shutil.move(study_folder, moved)
    shutil.move(folder, moved)
    assert all(read_state(moved / "another" / "runs" / name) == "done" for name in linked)


def test_an_unreadable_neighbor_does_not_stop_a_study(
    study_folder: Path, other: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    """This study does not need the neighbor's runs; their owner repairs them."""
    shared = link(other, study_folder.parent / "first")
    torn = study_folder / "runs" / shared[0] / "result.json"
    torn.write_text('{"status": "fin')
    assert set(link(other, study_folder.parent / "another")) == set(shared[1:])
    assert f"the run {torn.parent} of another study is not shared" in caplog.text


def test_reading_a_neighbor_needs_no_write_permission(
    study_folder: Path, other: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may belong to another user of the group, with an interrupted run."""
    for run in (study_folder / "runs").iterdir():
        (run / "result.json").unlink()
        (run / "lock").touch()
    original = os.open

    def open_(path: Path, flags: int, *rest: int, **more: int) -> int:
        if flags & (os.O_RDWR | os.O_WRONLY | os.O_CREAT):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", open_)
    places, shared = locate_runs(other.runs, study_folder.parent / "another")
    assert shared and all(read_state(places[name]) == "interrupted" for name in shared)


def test_links_to_missing_runs_stop_the_study(study_folder: Path, other: Plan) -> None:
    """Moved without its neighbor, it would begin the shared runs anew."""
    folder = study_folder.parent / "another"
    linked = link(other, folder)
    check_links(other.runs, folder)
    elsewhere = study_folder.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.move(folder, elsewhere)
    moved = elsewhere / "another"
    with pytest.raises(UserError, match=rf"shares {len(linked)} of its runs .* missing there: .*{study_folder.name}\."):
        check_links(other.runs, moved)
    assert (moved / "runs" / linked[0]).is_symlink()
    shutil.copytree(study_folder, elsewhere / study_folder.name, symlinks=True)
    check_links(other.runs, moved)
    assert all(read_state(moved / "runs" / name) == "done" for name in linked)


def test_link_to_a_run_that_another_neighbor_has_is_renewed(study_folder: Path, other: Plan) -> None:
    folder = study_folder.parent / "another"
    linked = link(other, folder)
    study_folder.rename(study_folder.parent / "renamed")
    check_links(other.runs, folder)
    assert link(other, folder) == linked
    assert all(read_state(folder / "runs" / name) == "done" for name in linked)


def test_a_dangling_link_is_removed(study_folder: Path, other: Plan) -> None:
    plan, folder = other, study_folder.parent / "another"
    linked = link(plan, folder)
    shutil.rmtree(study_folder)
    assert link(plan, folder) == []
    assert all(read_state(folder / "runs" / name) == "waiting" for name in linked)


def test_a_study_is_not_its_own_neighbor(study_folder: Path, plan: Plan) -> None:
    assert link(plan, study_folder) == []
