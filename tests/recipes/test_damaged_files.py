"""Files of a study that are damaged, or that a full disk does not take: one message with the file and the remedy, exit code 2."""

import errno
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.json_text import to_json
from recipes.__main__ import main
from recipes.reports.results import read_study
from recipes.reports.run_files import read_curves
from recipes.run.engine import Job
from recipes.run.engines import LocalSlots
from recipes.study.plan import Plan

CONTENTS = {"empty": b"", "half": b'{"status": "fini', "other": b"[1]", "not text": b"\xff\xfe{"}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["result.json", "environment.json", "export/config.json", "../../study.yaml"])
def test_damaged_file_is_named_by_the_report(
    study_folder: Path, plan: Plan, capsys: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    path = study_folder / "runs" / plan.runs[-1].id / name
    for run in plan.runs:
        if run.stage == plan.runs[-1].stage and "export" in name:
            (study_folder / "runs" / run.id / name).write_bytes(CONTENTS[content])
    path.write_bytes(CONTENTS[content])
    assert main(["report", str(study_folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and path.name in error and "elete" in error and "Traceback" not in error


def test_folder_in_place_of_a_result_is_named(
    study_folder: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    path = study_folder / "runs" / plan.runs[-1].id / "result.json"
    path.unlink()
    path.mkdir()
    assert main(["report", str(study_folder)]) == 2
    assert f"{path}: cannot be read (Is a directory)" in capsys.readouterr().err


def test_curves_skip_what_is_no_line_and_read_null_as_nan(study_folder: Path, plan: Plan) -> None:
    run = read_study(study_folder).runs[plan.runs[-1].id]
    lines = [to_json({"epoch": 1, "loss": 2.0}), to_json({"epoch": 2, "loss": math.inf}), "5", "[]", '{"epoch": null}']
    (run.folder / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b'\n\xff\xfe\n{"epoch": 3, "lo')
    curve = read_curves([run], ["loss"])
    assert curve["epoch"].tolist() == [1.0, 2.0]
    assert curve["value"][0] == 2.0 and math.isnan(curve["value"][1])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", ["report.html", "results.csv", "accuracy.png"])
def test_disk_that_takes_no_report_is_one_message(
    study_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    draw_only: Callable[..., None],
    name: str,
    number: int,
) -> None:
    draw_only("accuracy")

    def failing(write: Callable[..., int]) -> Callable[..., int]:
        def fail(path: Path, *content: Any, **options: Any) -> int:
            if name in path.name:
                raise OSError(number, os.strerror(number))  # as `write` does, without a file name
            return write(path, *content, **options)

        return fail

    monkeypatch.setattr(Path, "write_text", failing(Path.write_text))
    monkeypatch.setattr(Path, "write_bytes", failing(Path.write_bytes))
    assert main(["report", str(study_folder)]) == 2
    error = capsys.readouterr().err
    assert f"{name}: {os.strerror(number)}" in error and "choose another folder" in error
    assert not [path for path in study_folder.rglob(".*") if path.is_file()]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_at_a_runs_log_names_the_log(slots: Callable[[int], LocalSlots], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.txt").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        slots(1).start([Job("finetune", (), folder)])
    assert caught.value.filename == str(folder / "log.txt")
    shutil.rmtree(folder)
