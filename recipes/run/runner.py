"""Owns running a plan: what is ready goes to the engine, a line for each run that ended, nothing done is repeated."""

import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from common.errors import UserError
from recipes.result import read_result
from recipes.run.engines import Engine, Job
from recipes.run.states import log_tail, read_state
from recipes.study.plan import PlannedRun

GRACE_SECONDS = 60.0
"""How long runs may take to write their checkpoints when the study is stopped."""
IMPATIENCE_SECONDS = 2.0
"""A second signal after this long kills the runs at once; a sooner one is the same wish, passed on by make."""


@dataclass
class Outcome:
    """How the runs of a study stand at the end of a call."""

    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    signal_number: int | None = None

    @property
    def exit_code(self) -> int:
        """Return what the shell gets: 128 + signal when stopped, 1 when a run failed, otherwise 0."""
        if self.signal_number is not None:
            return 128 + self.signal_number
        return 1 if self.failed else 0


class StudyRunner:
    """Runs `runs` (a plan's, those a run needs included) with folders under `folder`, in `engine`.

    `say` prints a line; a run's line gives `metric` where the run has it, otherwise k-NN. A run that fails is
    reported with the end of its log and the others go on; those that start from it are skipped. A verdict such as
    `crash` is a result, not a failure.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        folder: Path,
        engine: Engine,
        say: Callable[[str], None],
        metric: str,
        poll_seconds: float = 0.1,
    ) -> None:
        """Find out what is done already; nothing is started."""
        self.runs = {run.id: run for run in runs}
        self.folder = folder
        self.engine = engine
        self.say = say
        self.metric = metric
        self.poll_seconds = poll_seconds
        self.outcome = Outcome()
        self.seconds: dict[str, float] = {}
        self.started: dict[str, float] = {}
        self.waited: set[str] = set()
        self.todo = [run for run in runs if not self._note_done(run)]

    def run(self) -> Outcome:
        """Run everything that is not done; return the outcome."""
        begun = len(self.runs) - len(self.todo)
        self.say(
            f"{counted(len(self.runs), 'run')}: {begun} done, {len(self.todo)} to go, {self.engine.slots} at a time"
        )
        with self._signals():
            try:
                while (self.todo or self.started) and self.outcome.signal_number is None:
                    self._start_ready()
                    for job, code in self.engine.ended():
                        self._finish(self.runs[job.folder.name], code)
                    time.sleep(self.poll_seconds)
            except (OSError, UserError):  # what is told ends the study, and no run outlives it
                self._stop()
                raise
            if self.outcome.signal_number is not None:
                self._stop()
                self.say("stopped. The same command goes on from here.")
        return self.outcome

    def _stop(self) -> None:
        """End the runs that are going, once they have saved."""
        self.say(f"stopping {counted(len(self.started), 'run')}; checkpoints are written first")
        self.engine.stop(GRACE_SECONDS)

    def _note_done(self, run: PlannedRun) -> bool:
        """Tell whether a run is over, and remember how long it took."""
        if read_state(self.folder / run.id) != "done":
            return False
        result = read_result(self.folder / run.id)
        self.seconds.setdefault(run.id, result.seconds if result else 0.0)
        return True

    def _start_ready(self) -> None:
        """Start runs while slots are free, in the plan's order; skip those with nothing to start from."""
        for run in list(self.todo):
            if len(self.started) >= self.engine.slots:
                return
            if self._is_blocked(run):
                continue
            if self._note_done(run):  # by another process that held its folder
                self.todo.remove(run)
                self._report(run, "done elsewhere", "")
            elif self.engine.start(Job(run.package, run.arguments(self.folder), self.folder / run.id)):
                self.todo.remove(run)
                self.started[run.id] = time.monotonic()
            elif run.id not in self.waited:
                self.waited.add(run.id)
                self.say(f"{run.id}: another process works in its folder; waiting for it")

    def _is_blocked(self, run: PlannedRun) -> bool:
        """Tell whether a run cannot start now; drop it where it never can."""
        if run.needs is None:
            return False
        if run.needs in self.outcome.failed or run.needs in self.outcome.skipped:
            return self._skip(run, f"{run.needs} failed")
        if run.needs not in self.seconds:
            return True
        result = read_result(self.folder / run.needs)
        if result is None or not result.is_usable:
            return self._skip(run, f"{run.needs} crashed, there are no weights to start from")
        return False

    def _skip(self, run: PlannedRun, why: str) -> bool:
        """Drop a run for good."""
        self.todo.remove(run)
        self.outcome.skipped.append(run.id)
        self._report(run, "skipped", why)
        return True

    def _finish(self, run: PlannedRun, code: int) -> None:
        """Take note of a run that ended."""
        wall = time.monotonic() - self.started.pop(run.id)
        result = read_result(self.folder / run.id)
        if result is None or not result.is_final:
            self.outcome.failed.append(run.id)
            self._report(run, "FAILED", f"exit code {code}; the end of {self.folder / run.id / 'log.txt'}:")
            self.say(log_tail(self.folder / run.id))
            return
        self.seconds[run.id] = wall
        ending = "" if result.verdict == "finished" else f" at step {result.step}: {result.reason}"
        shown = (self.metric, "knn_top1", *result.metrics)
        name = next((one for one in shown if one in result.metrics), None)
        metric = f"  {name} {result.metrics[name]:.1f}" if name else ""
        self._report(run, result.verdict, f"{wall:.0f} s{metric}{ending}")

    def _report(self, run: PlannedRun, word: str, detail: str) -> None:
        """Print a run's line: how many are over, its name, how it ended, and the time left."""
        over = len(self.runs) - len(self.todo) - len(self.started)
        width = len(str(len(self.runs)))
        left = f"  ({self._time_left()} left)" if self.todo or self.started else ""
        self.say(f"[{over:{width}d}/{len(self.runs)}] {word:<9} {run.id}  {detail}{left}")

    def _time_left(self) -> str:
        """Return the time to the end in words: each run is taken to last as the finished ones most like it did."""
        now = time.monotonic()
        expected = {
            run.id: self._expected_seconds(run) for run in [*self.todo, *map(self.runs.__getitem__, self.started)]
        }
        known = [seconds for seconds in expected.values() if seconds is not None]
        if len(known) < len(expected):
            return "unknown time"
        spent = {name: now - started for name, started in self.started.items()}
        total = sum(max(0.0, (seconds or 0.0) - spent.get(name, 0.0)) for name, seconds in expected.items())
        return "about " + in_words(total / min(self.engine.slots, max(1, len(expected))))

    def _expected_seconds(self, run: PlannedRun) -> float | None:
        """Return the mean seconds of the finished runs of this stage that share the most levels with `run`."""
        likeness: dict[int, list[float]] = {}
        for name, seconds in self.seconds.items():
            other = self.runs.get(name)
            if other and other.stage == run.stage:
                shared = sum(other.levels.get(axis) == level for axis, level in run.levels.items())
                likeness.setdefault(shared, []).append(seconds)
        return statistics.fmean(likeness[max(likeness)]) if likeness else None

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP as the wish to stop, for the length of a `with` block."""

        first: float | None = None

        def note(number: int, frame: FrameType | None) -> None:
            nonlocal first
            if first is not None and time.monotonic() - first > IMPATIENCE_SECONDS:  # asked twice: no more waiting
                self.engine.stop(0.0)
            first = first or time.monotonic()
            self.outcome.signal_number = number

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def in_words(seconds: float) -> str:
    """Return a duration as people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def counted(count: int, name: str) -> str:
    """Return a count with its noun: 1 seed, 3 seeds."""
    return f"{count} {name}{'' if count == 1 else 's'}"
