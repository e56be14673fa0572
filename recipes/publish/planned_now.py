"""The runs that the present code would start for a stored study: results of others are older than the code."""

from collections.abc import Mapping
from pathlib import Path

from common.errors import UserError
from recipes.run.runner import pluralize
from recipes.run.tune import shipped_choices
from recipes.stages import resolve_by_config
from recipes.study.choice_names import misnamed
from recipes.study.choices import read_choices
from recipes.study.cost import RunCosts
from recipes.study.downloads import without_downloads
from recipes.study.full_plan import make_full_plan, measure_with
from recipes.study.plan import Plan, format_value
from recipes.study.scales import load_scale
from recipes.study.specification import REPOSITORY, Study
from recipes.study.study_file import build_study, find_study, load_study
from recipes.study.tuning import plan_tuning


def describe_age(stored: Plan) -> str:
    """Return the sentence that stored results are older than the code; empty if they are not, or if it cannot be told here.

    A run's id has the hash of its recipe, its inputs and its stage's numerics. A study whose data is elsewhere has no plan here.
    """
    try:
        with without_downloads(stored.study.mapping.get("set", {}).get("data.source")):
            current = {run.id for run in plan_now(stored).runs}
    except UserError:
        return ""
    others = len(current - {run.id for run in stored.runs})
    if not others and len(current) == len(stored.runs):
        return ""
    return (
        f"These results are older than the code: the study has {pluralize(len(current), 'run')} now, of which {others} are not"
        f" among the {len(stored.runs)} stored here."
    )


def plan_now(stored: Plan) -> Plan:
    """Return the plan of a stored study by the present code, with the stored choices of lengths if they are those of its tuning."""
    path = _study_file(stored.study)
    study = _study_now(stored.study, path)
    measure = measure_with(RunCosts(load_scale(study.scale) if study.scale else None))
    choices = None
    if study.tune:
        tuning = plan_tuning(study, resolve_by_config, measure)
        found = (stored.choices, read_choices(shipped_choices(study, path)))
        known = (each for each in found if each is not None and each.digest == tuning.digest)
        choices = next((each for each in known if misnamed(tuning, each) is None), None)
    return make_full_plan(study, resolve_by_config, measure, choices)


def _study_file(stored: Study) -> Path:
    """Return the file of a stored study, which was named from the working directory; that of the repository comes first."""
    path = REPOSITORY / stored.source
    return path if path.is_file() else find_study(stored.source)


def _study_now(stored: Study, path: Path) -> Study:
    """Return a stored study as its file says now, with the overrides, scale, seeds and levels of the command that ran it.

    A study that was sized to its images is its own file: sizing it again would need the machine.
    """
    mapping = stored.mapping
    if mapping.get("sized_by"):
        return build_study(mapping, stored.source, folder=path.parent)
    words = [f"{key}={format_value(value)}" for key, value in mapping.get("set", {}).items()]
    words += [f"match={stored.match}", *([] if isinstance(mapping.get("tune", {}), Mapping) else ["tune=none"])]
    seeds = tuple(int(seed) for seed in mapping.get("seeds", ()))
    return load_study(
        path, tuple(words), mapping.get("scale"), seeds, float(stored.epochs_factor), mapping.get("levels", {})
    )
