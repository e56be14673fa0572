"""Section `slurm` of a study file, or a file of the same keys: what each run asks of a Slurm cluster.

slurm:
  partition: gpu
  time: 08:00:00                # a run that needs more saves, is requeued and resumes
  gpus_per_node: 1
  stages: {pretrain: {nodes: 2, gpus_per_node: 8}}
  lines: ["#SBATCH --constraint=a100", "module load cuda"]

It changes where runs are executed and no number of theirs: it is no part of a run's hash.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from common.config_messages import Otherwise, Problem
from common.config_types import AtLeastOne
from recipes.study.sbatch_lines import problems_of_line
from recipes.study.section_files import merge_file
from recipes.study.sections import FileSection

EARLY_SECONDS = 60
"""How much earlier than asked Slurm may send the signal before the time limit (sbatch, `--signal`)."""
_MINUTES = re.compile(r"\d+")
_CLOCK = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_TIME_FORMS = "must be a time as Slurm takes it: 30 (minutes), 08:00:00 or 2-12:00:00 (days-hours:minutes:seconds)."
_ONE_LINE = "must be text on one line, without spaces."


class SlurmStageEntry(FileSection):
    """What a run of a stage asks of Slurm; what is not set is that of the section, then the cluster's default."""

    partition: str | None = None
    """Partition, `--partition`."""
    account: str | None = None
    """Account that pays, `--account`."""
    time: str | None = None
    """Time limit of a job, `--time`. A run that needs more saves before it, is requeued and resumes."""
    nodes: AtLeastOne | None = None
    """Nodes of a run (default: 1)."""
    gpus_per_node: Annotated[int, Field(ge=0), Otherwise("must not be negative.")] | None = None
    """GPUs of a run on each node (default: 0)."""
    processes_per_node: AtLeastOne | None = None
    """Processes of a run on each node (default: one per GPU, without GPUs one)."""
    cpus_per_process: AtLeastOne | None = None
    """Cores of each process, which are also its number of threads (default: 1)."""
    memory: str | None = None
    """Memory on each node, `--mem`, such as 32G."""

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for a time in no form of Slurm's, and for a text that is not one word."""
        if self.time is not None and _seconds(self.time) in (None, 0):
            yield "time", f"{self.time}: {_TIME_FORMS}"
        for name in ("partition", "account", "memory"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"\S+", value):
                yield name, f"{value!r}: {_ONE_LINE}"


class SlurmEntry(SlurmStageEntry):
    """What each run of a study asks of Slurm."""

    save_seconds: Annotated[int, Field(ge=1), Otherwise("must be at least 1.")] = 120
    """Seconds before the time limit at which a run begins to save: more than a step and a checkpoint take."""
    lines: tuple[str, ...] = ()
    """Further lines of the batch script: options (`#SBATCH --constraint=a100`), and commands that precede the run (`module load
    cuda`)."""
    stages: dict[str, SlurmStageEntry] = {}
    """Other values for single stages, by the stage's name."""

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the keys, of lines that are several or that the study would override, and of too short a limit."""
        yield from super().problems()
        for line in self.lines:
            if "\n" in line:
                yield "lines", f"{line!r}: each entry must be one line. Give several entries."
                continue
            for problem in problems_of_line(line):
                yield "lines", problem
        for name, entry in {"": self, **self.stages}.items():
            seconds = _seconds(entry.time) if entry.time else None
            if seconds is not None and 0 < seconds <= self.save_seconds + EARLY_SECONDS:
                key = f"stages.{name}.time" if name else "time"
                least = (
                    f"save_seconds = {self.save_seconds} and the {EARLY_SECONDS} s by which Slurm's signal may be early"
                )
                yield key, f"{entry.time}: must be longer than {least}, or nothing would be trained."


def build_slurm(section: SlurmEntry, path: Path | None, stages: tuple[str, ...]) -> SlurmEntry:
    """Return the section of a study with the keys of the file `path` over it; raise UserError for an invalid file.

    `stages` are the names of the study's stages.
    """
    return merge_file("slurm", SlurmEntry, section, path, stages)


def _seconds(text: str) -> int | None:
    """Return a time limit in seconds; None if it has none of Slurm's forms."""
    if _MINUTES.fullmatch(text):
        return 60 * int(text)
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    days, *parts = found.groups()
    given = [int(part) for part in parts if part is not None]
    if days is None and len(given) == 2:  # minutes:seconds
        given.insert(0, 0)
    hours, minutes, seconds = (*given, 0, 0)[:3]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
