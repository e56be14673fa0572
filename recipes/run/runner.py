"""Runner of a plan: starts runs in an engine once their dependencies are done, and prints a line for each finished run."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from common.errors import UserError
from common.interruption import stop_signals
from recipes.result import read_result
from recipes.run.engine import Engine, Job, JobEnd
from recipes.run.remaining import Finished, expected_seconds
from recipes.run.states import LOG, log_tail, read_state
from recipes.study.plan import PlannedRun

GRACE_SECONDS = 60.0
"""Maximum time that runs get to write their checkpoints when the study is stopped."""
SECOND_SIGNAL_SECONDS = 2.0
"""A second signal after this time kills the runs immediately; an earlier one is a duplicate, forwarded by make."""

KNN = "knn_top1"
"""k-NN accuracy of frozen features; its images, those of the validation split, are not in its name."""


@dataclass
class StudyOutcome:
    """Ids of the runs that failed or were skipped, and the signal that stopped the study."""

    failed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    signal_number: int | None = None

    @property
    def exit_code(self) -> int:
        """Return the exit code: 128 + signal if the study was stopped, 1 if a run failed, otherwise 0."""
        if self.signal_number is not None:
            return 128 + self.signal_number
        return 1 if self.failed else 0


class StudyRunner:
    """Runs a plan's `runs`, including those that others start from, in `engine`; their folders are in `folder`.

    `print_line` prints a line. The line of a run shows `metric` if the run has it, otherwise its k-NN accuracy on the validation
    images, and the remaining time (`expected_seconds`). If a run fails, the end of its log is printed, the runs that start from it
    are skipped, and the others continue. A status such as `diverged` is a result, not a failure.
    """

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        folder: Path,
        engine: Engine,
        print_line: Callable[[str], None],
        metric: str,
        poll_seconds: float = 0.1,
    ) -> None:
        """Find the runs that are already done; nothing is started."""
        self.runs = {run.id: run for run in runs}
        self.folder = folder
        self.engine = engine
        self.print_line = print_line
        self.metric = metric
        self.poll_seconds = poll_seconds
        self.outcome = StudyOutcome()
        self.durations: dict[str, float] = {}
        self.start_times: dict[str, float] = {}
        self.locked: set[str] = set()
        self.pending = [run for run in runs if not self._check_done(run)]

    def run(self) -> StudyOutcome:
        """Run everything that is not done; return the outcome."""
        total, pending = len(self.runs), len(self.pending)
        counts = f"{total - pending} done, {pending} remaining, {self.engine.slots} at a time"
        self.print_line(f"{pluralize(total, 'run')}: {counts}")
        with self._handle_signals():
            try:
                while (self.pending or self.start_times) and self.outcome.signal_number is None:
                    self._start_ready()
                    for end in self.engine.finished():
                        self._finish(end)
                    time.sleep(self.poll_seconds)
            except (OSError, UserError):  # these end the study; no run must outlive it
                self._stop()
                raise
            if self.outcome.signal_number is not None:
                self._stop()
                self.print_line("stopped. Run the same command again to resume.")
        return self.outcome

    def _stop(self) -> None:
        """Stop the active runs; they write a checkpoint first."""
        if self.start_times:
            self.print_line(f"stopping {pluralize(len(self.start_times), 'run')}; checkpoints are written first")
        self.engine.stop(GRACE_SECONDS)

    def _check_done(self, run: PlannedRun) -> bool:
        """Return whether a run is done; store its duration if it is."""
        if read_state(self.folder / run.id) != "done":
            return False
        result = read_result(self.folder / run.id)
        self.durations.setdefault(run.id, result.seconds if result else 0.0)
        return True

    def _start_ready(self) -> None:
        """Start runs while the engine has free slots, in the plan's order; skip runs that have nothing to start from."""
        if len(self.start_times) >= self.engine.slots:
            return
        for job, is_started in self.engine.start(self._ready_jobs()):
            run = self.runs[job.folder.name]
            if is_started:
                self.pending.remove(run)
                self.start_times[run.id] = time.monotonic()
            elif run.id not in self.locked:
                self.locked.add(run.id)
                self.print_line(f"{run.id}: its folder is in use by another process; waiting for it")

    def _ready_jobs(self) -> Iterator[Job]:
        """Yield the jobs of the runs that can start now, for the engine to take as many as it has slots for."""
        for run in list(self.pending):
            if self._is_blocked(run):
                continue
            if self._check_done(run):  # by another process that held its folder
                self.pending.remove(run)
                self._report(run, "done elsewhere", "")
                continue
            yield job_of(run, self.folder)

    def _is_blocked(self, run: PlannedRun) -> bool:
        """Return whether a run cannot start now; skip it if it never can."""
        if run.needs is None:
            return False
        if run.needs in self.outcome.failed or run.needs in self.outcome.skipped:
            return self._skip(run, f"{run.needs} failed")
        if run.needs not in self.durations:
            return True
        result = read_result(self.folder / run.needs)
        if result is None or not result.is_usable:
            return self._skip(run, f"{run.needs} diverged; there are no weights to start from")
        return False

    def _skip(self, run: PlannedRun, reason: str) -> bool:
        """Remove a run from the pending ones; return True."""
        self.pending.remove(run)
        self.outcome.skipped.append(run.id)
        self._report(run, "skipped", reason)
        return True

    def _finish(self, end: JobEnd) -> None:
        """Record and report a run whose job ended."""
        run = self.runs[end.job.folder.name]
        seconds = time.monotonic() - self.start_times.pop(run.id)
        result, place = read_result(self.folder / run.id), f"  on {end.place}" if end.place else ""
        if result is None or not result.is_final:
            self.outcome.failed.append(run.id)
            self._report(run, "FAILED", f"{end.how}{place}; end of {self.folder / run.id / LOG}:")
            self.print_line(log_tail(self.folder / run.id))
            return
        seconds = result.seconds if self.engine.has_queue else seconds
        self.durations[run.id] = seconds
        reason = "" if result.status == "finished" else f" at step {result.step}: {result.reason}"
        candidates = (self.metric, KNN, *result.metrics)
        name = next((name for name in candidates if name in result.metrics), None)
        metric = f"  {'validation ' if name == KNN else ''}{name} {result.metrics[name]:.1f}" if name else ""
        self._report(run, result.status, f"{seconds:.0f} s{metric}{reason}{place}")

    def _report(self, run: PlannedRun, status: str, detail: str) -> None:
        """Print a run's line: the number of completed runs, status, name, detail, and the estimated remaining time."""
        completed = len(self.runs) - len(self.pending) - len(self.start_times)
        width = len(str(len(self.runs)))
        remaining = f"  ({self._remaining_time()} left)" if self.pending or self.start_times else ""
        self.print_line(f"[{completed:{width}d}/{len(self.runs)}] {status:<9} {run.id}  {detail}{remaining}")

    def _remaining_time(self) -> str:
        """Return the estimated remaining time, or the number of remaining runs where they wait in a queue."""
        if self.engine.has_queue:
            return pluralize(len(self.pending) + len(self.start_times), "run")
        now = time.monotonic()
        unfinished = [*self.pending, *(self.runs[name] for name in self.start_times)]
        finished = [Finished(self.runs[name], seconds) for name, seconds in self.durations.items() if name in self.runs]
        expected = {run.id: expected_seconds(run, finished) for run in unfinished}
        known = [seconds for seconds in expected.values() if seconds is not None]
        if len(known) < len(expected):
            return "unknown time"
        elapsed = {name: now - started for name, started in self.start_times.items()}
        total = sum(max(0.0, (seconds or 0.0) - elapsed.get(name, 0.0)) for name, seconds in expected.items())
        return "about " + format_duration(total / min(self.engine.slots, max(1, len(expected))))

    @contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """Stop the study on the signals that stop a run within a `with` block."""

        first: float | None = None

        def handle(number: int, frame: FrameType | None) -> None:
            nonlocal first
            if first is not None and time.monotonic() - first > SECOND_SIGNAL_SECONDS:
                self.engine.stop(0.0)
            first = first or time.monotonic()
            self.outcome.signal_number = number

        previous = {number: signal.signal(number, handle) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def job_of(run: PlannedRun, folder: Path) -> Job:
    """Return the job of a run; `folder` contains the run folders."""
    needs = folder / run.needs if run.needs else None
    return Job(run.package, run.arguments(folder), folder / run.id, run.stage, needs)


def format_duration(seconds: float) -> str:
    """Return a duration in readable units: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def pluralize(count: int, noun: str, plural: str | None = None) -> str:
    """Return a count with its noun: 1 seed, 3 seeds; `plural` where it is not the noun with an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
