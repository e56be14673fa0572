"""Folder names of runs and studies can be stored, and do not change where they could be before."""

import re
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.paths import MAX_NAME_BYTES, check_length, user_path
from recipes.study.folder_names import folder_name
from recipes.study.plan import Resolver, make_plan
from recipes.study.study_file import build_study

STAGES = {"finetune": {"recipe": "finetune.yaml"}}


@pytest.mark.parametrize("text", ["finetune-conv-OST-fraction0.1", "my study", "größe_2+x", "a" * MAX_NAME_BYTES])
def test_names_that_can_be_stored_are_unchanged(text: str) -> None:
    assert folder_name(text) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/b\n\0c", "a_b_c"),
        ("-rf", "_rf"),
        ("..", "_"),
        (".hidden", "_hidden"),
        ("end \t", "end_"),
        ("../../x", "__.._x"),
    ],
)
def test_other_names_are_made_safe(text: str, name: str, tmp_path: Path) -> None:
    assert folder_name(text) == name
    (tmp_path / name).mkdir()


@pytest.mark.parametrize("letter", ["x", "ü", "漢"])
def test_long_names_keep_their_beginning_and_the_hash(letter: str, tmp_path: Path) -> None:
    name = folder_name("stage-" + letter * 300, "-0123abcd")
    assert name.startswith("stage-" + letter * 50) and name.endswith(letter + "-0123abcd")
    (tmp_path / name).mkdir()


def test_runs_with_long_levels_have_distinct_folders(echo_config: Resolver, tmp_path: Path) -> None:
    levels: dict[str, Any] = {
        f"{'long' * 70}{end}": {"model.stem": stem} for end, stem in (("a", "conv"), ("b", "patchify"))
    }
    axes = {
        "stem": {"levels": levels},
        "fraction": {"key": "data.fraction", "values": [1.0]},
        "seed": {"key": "train.seed", "values": [0]},
    }
    report = {"metric": "test_top1", "x": "fraction", "repeats": "seed", "compare": {"stem": list(levels)}}
    mapping = {"name": "n", "question": "?", "stages": STAGES, "axes": axes, "report": report, "match": "none"}
    runs = make_plan(build_study(mapping, "n.yaml"), echo_config).runs
    assert len({run.id for run in runs}) == 2
    for run in runs:
        assert re.fullmatch(r"finetune-(long)+\w*-[0-9a-f]+", run.id)
        (tmp_path / run.id).mkdir()


def test_paths_that_are_too_long_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"out = '.*looked up \(File name too long\)"):
        user_path(str(tmp_path / "missing" / ("ü" * 130)), "out")
    deep = tmp_path.joinpath(*["d" * 200] * 20)
    assert user_path(str(deep), "out") == deep
    check_length(tmp_path / "run", "out")
    with pytest.raises(UserError, match=r"out = '.*too long for the files in it"):
        check_length(Path(str(deep)[:4070]), "out")
