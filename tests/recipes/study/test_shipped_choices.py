"""The choices that are kept beside the studies."""

from pathlib import Path

import pytest

from recipes.run.tune import shipped_choices
from recipes.stages import resolve_by_config
from recipes.study.choice_names import misnamed
from recipes.study.choices import read_choices
from recipes.study.cost import RunCosts
from recipes.study.full_plan import measure_with
from recipes.study.specification import STUDIES
from recipes.study.study_file import find_study, load_study
from recipes.study.tuning import plan_tuning

FILES = sorted((STUDIES / "choices").glob("*.yaml"))


def test_the_quick_start_has_choices() -> None:
    assert "quickstart" in [path.stem for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_shipped_choices_are_those_of_the_study_as_it_is_now(path: Path) -> None:
    study_path = find_study(path.stem)
    study = load_study(study_path)
    choices = read_choices(path)
    assert choices is not None and shipped_choices(study, study_path).resolve() == path.resolve()
    tuning = plan_tuning(study, resolve_by_config, measure_with(RunCosts(None)))
    assert choices.digest == tuning.digest, (
        f"the study would tune again; make them again with: {choices.command} --save"
    )
    assert misnamed(tuning, choices) is None and all(choice.runs for choice in choices.choices)
