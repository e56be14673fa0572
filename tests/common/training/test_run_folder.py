"""The files of a run folder: written whole, cut back to a checkpoint."""

import json
from pathlib import Path

import pytest

from common.errors import UserError
from common.training.run_folder import RunFolder


def test_torn_lines_and_lines_beyond_the_checkpoint_go(tmp_path: Path) -> None:
    path = tmp_path / "run"
    folder = RunFolder(path, None)
    path.mkdir()
    for step in (1, 2, 3):
        folder.log({"step": step, "loss": 1 / step})
    whole = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text(whole[0] + "\0\0\0\n" + '{"loss": 1}\n' + whole[1] + whole[2] + whole[0][:-5])
    folder.cut_log(2)
    assert (path / "metrics.jsonl").read_text() == whole[0] + whole[1]
    folder.cut_log(-1)
    assert (path / "metrics.jsonl").read_text() == ""


def test_a_line_that_holds_no_number_is_kept(tmp_path: Path) -> None:
    """A diverged loss is a result."""
    folder = RunFolder(tmp_path / "run", None)
    folder.path.mkdir()
    folder.log({"step": 1, "loss": float("nan")})
    folder.cut_log(1)
    assert "NaN" in (tmp_path / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"verdict": 3}', '{"verdict": "fini'])
def test_a_result_that_is_none_is_named_and_left(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path / "run", None)
    folder.path.mkdir()
    (folder.path / "result.json").write_text(text)
    with pytest.raises(UserError, match=r"result\.json: not the result of a run .*Delete this file alone"):
        folder.result()


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", None)
    folder.path.mkdir()
    folder.write("result.json", json.dumps({"verdict": "finished"}))
    assert folder.result() == {"verdict": "finished"} and [path.name for path in folder.path.iterdir()] == [
        "result.json"
    ]
    folder.forget_result()
    assert folder.result() is None
