"""Owns checkpoints on the disk: written whole or not at all, the last ones and the milestones kept, the newest whole one read.

A checkpoint is a folder `step-<steps done>` of safetensors and JSON with a checksum; nothing is pickled.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

logger = logging.getLogger(__name__)

TENSORS, VALUES, SUMS, MILESTONE = "state.safetensors", "state.json", "SHA256SUMS", "milestone"
"""Files of a checkpoint. The sums are as `sha256sum -c` reads them; the last one is empty, and stands only in those that are
kept for ever."""


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds."""

    step: int
    """Optimizer steps done; training goes on with this step's batch."""
    tensors: dict[str, Tensor]
    """Every tensor of the state by its dotted name."""
    values: dict[str, Any]
    """Everything else of the state, as JSON has it."""


class Checkpoints:
    """The checkpoints of one run. One process writes them; any may read."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        """Take the folder that holds them and how many of the last ones stay, milestones not counted."""
        self.folder, self.keep = folder, keep
        self._whole_step: int | None = None
        """Step of the checkpoint that was written or read last: whole, and of this very state."""

    def write(
        self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, milestone: bool = False
    ) -> None:
        """Write a checkpoint of `step` done steps and drop those that are no longer kept. Errors are the system's own.

        It is written to a temporary folder, flushed to the disk and renamed: a kill at any moment, or a disk that is full,
        leaves either the former checkpoints or these and the new one; never a torn one under a checkpoint's name.
        """
        final = self.folder / f"step-{step:09d}"
        if step == self._whole_step:
            if milestone:
                (final / MILESTONE).touch()
            return
        self.remove_leftovers()
        temporary = self.folder / f".writing-{step:09d}"
        try:
            _write_files(temporary, step, tensors, values, milestone=milestone)
            if final.exists():  # damaged, or training would have gone on from it
                final.rename(self.folder / f".damaged-{step:09d}")
            temporary.rename(final)
            flush(self.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._whole_step = step
        self._prune(step)

    def read_newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None; a damaged one is passed over and the log says so."""
        for path in sorted(self.folder.glob("step-*"), reverse=True):
            try:
                checkpoint = _read(path)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                logger.warning("checkpoint %s is damaged (%s); going back to the one before it", path, error)
                continue
            self._whole_step = checkpoint.step
            return checkpoint
        return None

    def remove_leftovers(self) -> None:
        """Remove what a kill left of unfinished writing."""
        for pattern in (".writing-*", ".damaged-*"):
            for leftover in self.folder.glob(pattern):
                shutil.rmtree(leftover, ignore_errors=True)

    def _prune(self, newest: int) -> None:
        """Drop all but the last `keep` and the milestones, and those beyond the newest: this one was taken back behind them."""
        steps = {path: int(path.name.removeprefix("step-")) for path in sorted(self.folder.glob("step-*"))}
        beyond = [path for path, step in steps.items() if step > newest]
        passing = [path for path, step in steps.items() if step <= newest and not (path / MILESTONE).exists()]
        for path in [*beyond, *passing[: -self.keep]]:
            shutil.rmtree(path, ignore_errors=True)
        self.remove_leftovers()


def flush(path: Path) -> None:
    """Force a file or folder onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_files(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, milestone: bool
) -> None:
    """Write the files of a checkpoint into a new folder, and all of it onto the disk."""
    folder.mkdir(parents=True)
    # On a CPU nothing is copied here: the loop stands still while it saves.
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    (folder / VALUES).write_text(json.dumps({"step": step, "values": dict(values)}))
    (folder / SUMS).write_text(_sums(folder))
    if milestone:
        (folder / MILESTONE).touch()
    for path in (folder / TENSORS, folder / VALUES, folder / SUMS, folder):
        flush(path)


def _read(path: Path) -> Checkpoint:
    """Read one checkpoint and hold it against its checksums."""
    if (path / SUMS).read_text() != _sums(path):
        raise ValueError("its checksums do not fit")
    described = json.loads((path / VALUES).read_text())
    return Checkpoint(described["step"], load_file(path / TENSORS), described["values"])


def _sums(folder: Path) -> str:
    """Return the SHA-256 of a checkpoint's files, one line each; read in pieces, as they may be larger than the memory."""
    lines = []
    for name in (TENSORS, VALUES):
        with (folder / name).open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n")
    return "".join(lines)
