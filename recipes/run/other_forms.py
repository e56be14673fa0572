"""Other forms of a study in its folder, such as other seeds: their report replaces the present one, and finished runs leave it."""

from pathlib import Path

from common.errors import UserError
from common.files import path_exists
from recipes.run.runner import pluralize
from recipes.run.states import read_state
from recipes.study.display import display_path
from recipes.study.plan import Plan, PlannedRun
from recipes.study.stored_plan import read_plan


def check_form(plan: Plan, folder: Path) -> None:
    """Raise UserError if a folder has finished runs of the study with other budgets: it is another study."""
    if not path_exists(folder / "study.yaml"):
        return
    written = read_plan(folder)
    for key, option in (("epochs_factor", "--epochs-factor "), ("match", "match=")):
        before, now = (getattr(each.study, key) for each in (written, plan))
        if before != now and (finished := _finished(written, folder)):
            before, now = (f"{value:g}" if isinstance(value, float) else value for value in (before, now))
            raise UserError(
                f"{option}{now}: {display_path(folder)} contains {plan.study.title} with {key} = {before} and"
                f" {pluralize(len(finished), 'finished run')}, whose report would be replaced. Give this form of the study a"
                " folder of its own: --out <another folder>."
            )


def runs_left_out(plan: Plan, folder: Path) -> str | None:
    """Return that finished runs of the study in a folder are not part of a plan any more; None if all are."""
    if not path_exists(folder / "study.yaml"):
        return None
    kept = {run.id for run in plan.runs}
    left_out = [run for run in _finished(read_plan(folder), folder) if run.id not in kept]
    if not left_out:
        return None
    parts = "run is not part" if len(left_out) == 1 else "runs are not part"
    return (
        f"{len(left_out)} finished {parts} of this form of the study any more: the report in {display_path(folder)} is replaced by"
        f" one without, and {'its folder stays' if len(left_out) == 1 else 'their folders stay'} in runs/. To keep that report,"
        " stop and give --out <another folder>."
    )


def _finished(written: Plan, folder: Path) -> list[PlannedRun]:
    """Return the finished runs of the plan in a folder."""
    return [run for run in written.runs if read_state(folder / "runs" / run.id) == "done"]
