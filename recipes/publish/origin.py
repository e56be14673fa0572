"""Where stored results come from: machine, versions, commit, date, and the command that makes them again."""

import json
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import path_exists
from recipes.reports.results import StudyRecord
from recipes.result import RESULT
from recipes.run.runner import pluralize
from recipes.study.command import run_command

FORMAT = 1
"""Version of the stored files. Increase it when an earlier one cannot be read any more."""
VERSIONS = "versions"
_SHORT_COMMIT = 9


@dataclass
class Origin:
    """Machine, versions, commit and date of a stored study's runs."""

    finished: str
    """Date (UTC) on which the last run ended."""
    environments: list[dict[str, Any]]
    """The distinct contents of the runs' environment.json, without the command."""
    note: str = ""
    """What the files do not say, such as other work on the machine."""
    num_classes: int | None = None
    metric_kind: str = ""
    """The value of `per_image` behind the report's metric; empty if it is no mean over images."""
    test_sets: list[dict[str, Any]] = field(default_factory=list)
    environment_of: dict[str, int] = field(default_factory=dict)
    """Number of each run's environment, which runs.csv holds."""

    def to_mapping(self) -> dict[str, Any]:
        """Return the content of origin.json."""
        return {"format": FORMAT, **{key: value for key, value in vars(self).items() if key != "environment_of"}}

    @classmethod
    def from_mapping(cls, content: dict[str, Any]) -> "Origin":
        """Return the origin in origin.json; raise ValueError or TypeError if it is another file's content."""
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return cls(**content)


def read_origin(study: StudyRecord, note: str) -> Origin:
    """Return where the results of a study folder come from."""
    environments: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    times = []
    for name, run in study.runs.items():
        if run.result is None:
            continue
        content = _read_environment(run.folder / "environment.json")
        if content not in environments:
            environments.append(content)
        numbers[name] = environments.index(content)
        times.append((run.folder / RESULT).stat().st_mtime)
    finished = datetime.fromtimestamp(max(times), UTC).date().isoformat()
    return Origin(finished, environments, note, environment_of=numbers)


def _read_environment(path: Path) -> dict[str, Any]:
    """Return the content of a run's environment.json without the command; empty if there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path_exists(path) else {}
        return {key: value for key, value in content.items() if key != "command"}
    except (ValueError, RecursionError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged ({error}). Delete this file: the results are published without it."
        ) from error


def describe_origin(study: StudyRecord, origin: Origin, facts: str) -> list[str]:
    """Return machine, versions, commit, date and command in one line each; `facts` is the size of the study."""
    command = shlex.join(run_command(study.plan.study))
    return [
        f"Command: `{command}`",
        f"Size: {facts}",
        *_sizes(study, origin),
        f"Machine: {_counted(origin, _machine)}" + (f"; {origin.note}" if origin.note else ""),
        f"Finished: {origin.finished}",
        f"Code: {_counted(origin, _code)}",
        f"Versions: {_counted(origin, _versions)}",
    ]


def _sizes(study: StudyRecord, origin: Origin) -> list[str]:
    """Return the sizes of the networks and the numbers of images of the last stage's runs."""
    results = [run.result for run in study.of_stage(study.last_stage) if run.result]
    if not results:
        return []
    tested = [f"{_range([entry['images'] for entry in origin.test_sets])} for testing"] if origin.test_sets else []
    images = [f"{_range([result.train_images for result in results])} for training", *tested]
    return [f"Images: {', '.join(images)}", f"Networks: {_range([result.parameters for result in results])} parameters"]


def _range(values: Sequence[int]) -> str:
    """Return the smallest and the largest of numbers."""
    return f"{min(values):,}" + (f" to {max(values):,}" if max(values) > min(values) else "")


def _counted(origin: Origin, describe: Callable[[dict[str, Any]], str]) -> str:
    """Return a description of the environments, most frequent first, with the number of runs of each if they differ."""
    counts: Counter[str] = Counter()
    for number in origin.environment_of.values():
        counts[describe(origin.environments[number])] += 1
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({pluralize(count, 'run')})" for text, count in counts.most_common())


def _machine(environment: dict[str, Any]) -> str:
    """Return processor, its model, cores, threads and device."""
    model = environment.get("processor_model")
    parts = [str(environment.get("processor") or "unknown processor") + (f" ({model})" if model else "")]
    for key, unit in (("cores", "core"), ("threads", "thread")):
        if key in environment:
            parts.append(pluralize(int(environment[key]), unit) + (" per run" if key == "threads" else ""))
    device = environment.get("device")
    return ", ".join([*parts, *([f"device {device}"] if device else [])])


def _code(environment: dict[str, Any]) -> str:
    """Return the commit, and whether files had been changed."""
    commit = environment.get("git_commit")
    if not commit:
        return "commit unknown"
    return f"commit {str(commit)[:_SHORT_COMMIT]}" + (" with changed files" if environment.get("git_changed") else "")


def _versions(environment: dict[str, Any]) -> str:
    """Return the versions of Python and of the packages."""
    versions = {"Python": environment.get("python", "unknown"), **environment.get(VERSIONS, {})}
    return ", ".join(f"{name} {version}" for name, version in versions.items())
