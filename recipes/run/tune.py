"""Tuning of a study: runs the candidates and the runs of twice the chosen epochs, and keeps the choices in choices.yaml."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from recipes.result import Result, read_result
from recipes.run.engine import Engine
from recipes.run.fetch_weights import fetch_starts
from recipes.run.runner import StudyRunner, pluralize
from recipes.run.stale_images import check_images
from recipes.run.states import read_state
from recipes.study.choice_names import misnamed
from recipes.study.choices import Choices, read_choices, write_choices
from recipes.study.cost import RunCosts
from recipes.study.display import display_path
from recipes.study.full_plan import with_macs
from recipes.study.plan import Resolver
from recipes.study.specification import Study
from recipes.study.tuning import Tuning, best, choose, make_choices, with_doubled

CHOICES = "choices.yaml"
TUNING = "tuning"
"""Folder of the tuning runs in that of the study."""


def shipped_choices(study: Study, study_path: Path) -> Path:
    """Return the file of the choices beside a study's file, which need not exist."""
    name = f"{study_path.stem}-{study.scale}" if study.scale else study_path.stem
    return study_path.parent / "choices" / f"{name}.yaml"


def find_choices(tuning: Tuning, folder: Path, shipped: Path, *, renewed: bool = False) -> tuple[Choices, Path] | None:
    """Return the choices of the study's folder, else those beside its file, if they are those of this tuning; and their file.

    Raise UserError if those of this tuning have other names of levels or axes, unless they are to be `renewed`.
    """
    problem = None
    for path in (folder / CHOICES, shipped):
        choices = read_choices(path)
        if choices is not None and choices.digest == tuning.digest:
            found = misnamed(tuning, choices)
            if found is None:
                return choices, path
            problem = problem or f"{display_path(path)}: {found}"
    if problem is not None and not renewed:
        raise UserError(problem)
    return None


@dataclass(frozen=True)
class TuningOutcome:
    """Choices, or the exit code of a tuning that was stopped or in which a run failed."""

    choices: Choices | None
    exit_code: int = 0


@dataclass(frozen=True)
class Tuner:
    """Runs a tuning in the study's `folder` with `engine`; runs that are done are not repeated."""

    folder: Path
    engine: Engine
    resolve: Resolver
    print_line: Callable[[str], None]
    costs: RunCosts

    def tune(self, tuning: Tuning, command: str) -> TuningOutcome:
        """Run what is not done, write choices.yaml and return the choices."""
        runs, seeds = tuning.plan.runs, ", ".join(map(str, tuning.tune.seeds))
        self.print_line(
            f"tuning first: {pluralize(len(runs), 'run')} on seed {seeds} choose the lengths on validation images, then up to"
            f" {pluralize(len(tuning.arms) * len(tuning.tune.seeds), 'run')} of twice the chosen length"
        )
        if code := self._run(tuning):
            return TuningOutcome(None, code)
        chosen = {arm: point for arm, means in choose(tuning, self._read).items() if (point := best(means))}
        tuning = with_doubled(tuning, chosen, self.resolve)
        if code := self._run(tuning):
            return TuningOutcome(None, code)
        choices = make_choices(tuning, self._read, command)
        write_choices(choices, self.folder / CHOICES)
        self.print_line(f"choices: {display_path(self.folder / CHOICES)}")
        return TuningOutcome(choices)

    def _run(self, tuning: Tuning) -> int:
        """Run what is not done; return the exit code. Raise UserError if what is done was made from other images."""
        folder, runs = self.folder / TUNING, tuning.plan.runs
        places = {run.id: folder / "runs" / run.id for run in runs}
        check_images(runs, places, folder)
        fetch_starts(tuning.plan.study, [run for run in runs if read_state(places[run.id]) != "done"])
        runs = with_macs(tuning.plan, self.costs).runs  # of networks whose weights were fetched, too
        outcome = StudyRunner(runs, folder / "runs", self.engine, self.print_line, tuning.tune.metric).run()
        for name in outcome.failed:
            self.print_line(f"failed: {display_path(self.folder / TUNING / 'runs' / name)}")
        return outcome.exit_code

    def _read(self, name: str) -> Result | None:
        """Return the result of a run, or None if it could not start because the run before it diverged."""
        return read_result(self.folder / TUNING / "runs" / name)


def save_choices(choices: Choices, path: Path) -> None:
    """Write choices beside a study's file; raise UserError if that is not possible."""
    try:
        write_choices(choices, path)
    except OSError as error:
        raise UserError(
            f"--save: {display_path(path)} cannot be written ({error.strerror or error}). Save them from a folder of your own:"
            " copy the study's file there."
        ) from error


def describe_choices(choices: Choices) -> list[str]:
    """Return a line for each choice."""
    lines = []
    for choice in choices.choices:
        words = ", ".join(f"{key}={value}" for key, value in choice.settings.items())
        state = {True: "converged", False: "not converged", None: "convergence unknown"}[choice.converged]
        gain = "" if choice.gain is None else f" ({choice.gain:+.1f} points from twice the epochs)"
        failed = "; every candidate diverged, so the recipe is taken as it is" if choice.metric is None else ""
        lines.append(f"    {'-'.join(choice.levels.values())}: {words}; {state}{gain}{failed}")
    return lines
