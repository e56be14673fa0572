"""The training loop of every stage: it resumes, logs, saves, stops and rewinds; the stage takes the steps.

loop.restore(schedules)
for step, batch in loop:
    loss, skipped = train_step(batch, step)
    loop.report(loss, skipped)
    if loop.is_evaluation_due(every_epochs):
        evaluate(network)
return loop.finish(loop.outcome or ...)
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from common.data.augment.multi_crop import Views
from common.data.config import DataConfig
from common.data.loading.corrupt import CorruptImageCounter, build_corrupt_counter
from common.data.loading.loader import Batch, build_loader
from common.data.loading.sampler import EpochBatches, Sampler
from common.data.splits.roles import Splits
from common.data.worker_count import count_workers
from common.interruption import WaitInterrupted
from common.training.config import TrainConfig
from common.training.loss_monitor import LossMonitor
from common.training.progress import Progress
from common.training.run import Run
from common.training.run_folder import Schedules
from common.training.state import Stateful, TrainingState
from common.training.status import RunOutcome


class Monitor(Stateful, Protocol):
    """What averages the values of steps for the log and summarizes a run for a person."""

    def add(self, values: Any, *, step: int, epoch: int, last: bool) -> None:
        """Take the values of a step; `last` marks the last step of an epoch."""

    def summary(self) -> str:
        """Return the current metrics in one line."""


@dataclass(frozen=True)
class SaveDecision:
    """What all processes do after a step."""

    stop: bool
    """Save and end: one of them received a signal."""
    checkpoint: bool
    """Save."""
    is_kept: bool
    """The checkpoint is kept permanently (`train.keep_every_epochs`)."""


class Loop:
    """Iterate over (step, batch on the device) from the last checkpoint to the last step, a signal or a divergence.

    `step` counts the optimizer steps done. The stage calls `report` once for each batch; before the next batch the loop saves a
    checkpoint if one is due. All decisions are made by all processes together, at the same steps.
    """

    def __init__(
        self,
        run: Run,
        train: TrainConfig,
        batches: EpochBatches,
        loader: Any,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        *,
        monitor: Monitor,
        watch: LossMonitor,
        corrupt: CorruptImageCounter,
    ) -> None:
        """Take the run, what is iterated over (`loader` follows `batches`), and everything that a checkpoint holds."""
        self.run, self.train, self.batches, self.loader = run, train, batches, loader
        self.monitor, self.watch, self.corrupt = monitor, watch, corrupt
        self.steps_per_epoch: int = batches.sampler.steps_per_epoch
        self.num_steps = train.epochs * self.steps_per_epoch
        self.step = 0
        """Optimizer steps done."""
        self.outcome: RunOutcome | None = None
        """Why the loop ended before or at its last step; none while it runs, and for a run that trained to its end well."""
        parts: dict[str, Stateful] = {"monitor": monitor, "watch": watch, "errors": corrupt}
        self.state = TrainingState(run, train, networks, optimizer, parts)
        self.progress = Progress(run, self.num_steps, train.batch_size)
        self._saved_at = time.monotonic()
        self._has_rewound = False

    @property
    def epoch(self) -> int:
        """Complete epochs done."""
        return self.step // self.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        """Yield (steps done, batch), and act on what `report` was told before the next one."""
        if self.step == 0 and self.train.on_divergence == "rewind":
            self.save()
        try:
            yield from self._steps()
        except WaitInterrupted:
            if self.run.num_processes > 1:  # the others wait for this process in the step, and cannot save
                raise
            self._end_without_batch()
        if self.outcome is None:
            self.outcome = self.watch.finalize(self.step)

    def _steps(self) -> Iterator[tuple[int, Batch]]:
        """Yield (steps done, batch) until the last step or the outcome."""
        while self.step < self.num_steps and self.outcome is None:
            self.batches.set_epoch(self.epoch, self.step % self.steps_per_epoch)
            self._has_rewound = False
            for batch in self.corrupt.watch(self.loader):
                yield self.step, batch.to(self.run.device)
                if self.step % self.steps_per_epoch and not self._has_rewound and self.outcome is None:
                    self._maybe_checkpoint()
                if self._has_rewound or self.outcome is not None:
                    break
            if self.outcome is None and self.step % self.steps_per_epoch == 0:
                self.progress.describe(self.monitor.summary())
                self._maybe_checkpoint()

    def report(self, loss: Tensor, skipped: Tensor, values: Any = None) -> None:
        """Take the loss of the step just done, and 1.0 if its gradient was not finite and the step was skipped.

        `values` are what the monitor averages; the loss where there is nothing else.
        """
        self.step += 1
        last = self.step % self.steps_per_epoch == 0
        epoch = (self.step - 1) // self.steps_per_epoch
        self.monitor.add(loss if values is None else values, step=self.step, epoch=epoch, last=last)
        self.progress.advance(self.step)
        self._settle(self.watch.update(self.step, loss, skipped))

    def is_evaluation_due(self, every_epochs: int) -> bool:
        """Return whether an epoch just ended after which to evaluate: every so many, and the last one."""
        if self.outcome is not None or self.step == 0 or self.step % self.steps_per_epoch:
            return False
        return self.epoch % every_epochs == 0 or self.epoch == self.train.epochs

    def seed_step(self, step: int) -> None:
        """Seed torch's own generator, which drop path draws from, by (seed, step, process): no state needs saving."""
        entropy = [self.train.seed, step, self.run.rank]
        torch.manual_seed(np.random.SeedSequence(entropy).generate_state(1)[0])

    def restore(self, schedules: Schedules) -> None:
        """Resume from the newest complete checkpoint, if there is one (`TrainingState.restore`); every process calls it."""
        self.step = self.state.restore(schedules)

    def save(self, *, is_kept: bool = False) -> None:
        """Write a checkpoint of the steps done; every process calls it and waits until it is complete."""
        self.state.save(self.step, is_kept=is_kept)
        self._saved_at = time.monotonic()

    def finish(self, outcome: RunOutcome, **facts: Any) -> int:
        """Write result.json with `facts` and what the loop knows; return the exit code of the process."""
        return self.run.finish(
            outcome,
            step=self.step,
            images=self.step * self.train.batch_size,
            rewinds=self.state.rewinds,
            **self.corrupt.summary(),
            **facts,
        )

    def _maybe_checkpoint(self) -> None:
        """Save if it is time; end if a signal asked for it, or if the losses read before saving show a divergence."""
        decision = self._decide()
        if decision.checkpoint:
            if outcome := self.watch.flush():
                self._settle(outcome)
                return
            self.save(is_kept=decision.is_kept)
        if decision.stop:
            self.outcome = self.run.interrupted()

    def _end_without_batch(self) -> None:
        """Save the steps done and end, after a signal while the next batch did not come."""
        if diverged := self.watch.flush():
            self._settle(diverged)
        else:
            self.save()
        self.outcome = self.outcome or self.run.interrupted()

    def _decide(self) -> SaveDecision:
        """Return what to do after the steps done; all processes get the same answer, and must ask at the same steps."""
        late = time.monotonic() - self._saved_at > 60 * self.train.checkpoint_minutes
        own = (self.run.signals.reason is not None, late, self.run.has_log_error)
        stop, late, has_log_error = self.run.process_group.any(*own)
        if has_log_error:
            self.run.raise_log_error()
        every, kept = self.train.checkpoint_steps, self.train.keep_every_epochs
        is_kept = kept is not None and self.step % (kept * self.steps_per_epoch) == 0
        by_steps = every is not None and self.step % every == 0
        return SaveDecision(stop, checkpoint=stop or late or by_steps or is_kept, is_kept=is_kept)

    def _settle(self, outcome: RunOutcome | None) -> None:
        """End with `outcome`, unless it is a divergence that the recipe rewinds (`train.on_divergence`).

        Training then resumes at the step of the divergence with the weights of the last checkpoint: the batches between are
        skipped, and the schedules continue as if nothing had happened.
        """
        if outcome is None:
            return
        diverged_at = outcome.step or self.step
        if not self.state.rewind(outcome, diverged_at):
            self.outcome = outcome
            return
        self.step, self._has_rewound = diverged_at, True
        self.save()


def build_loop(
    run: Run,
    train: TrainConfig,
    data: DataConfig,
    splits: Splits,
    sampler: Sampler,
    view: Callable[..., Views],
    networks: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    *,
    monitor: Monitor,
    watch: LossMonitor,
    token_labels: Any = None,
) -> Loop:
    """Return the loop over the batches of the training images that `sampler` draws and `view` transforms."""
    batches, on_gpu = EpochBatches(sampler), run.device.type == "cuda"
    loader = build_loader(
        splits.train,
        view,
        batches,
        workers=count_workers(data.workers, on_gpu=on_gpu),
        pin_memory=on_gpu,
        replacement_seed=train.seed,
        token_labels=token_labels,
        copies_shards=True,
    )
    corrupt = build_corrupt_counter(data, splits, run.process_group)
    return Loop(run, train, batches, loader, networks, optimizer, monitor=monitor, watch=watch, corrupt=corrupt)
