"""The checkpoints of a run: the latest ones and the milestones are kept, the newest intact one is read.

A checkpoint that the system cannot read at the moment (permissions, a lost file system, too many open files) may be intact, so
the run ends and the folder is left unchanged.
"""

import errno
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from common.checkpoint_files import (
    DAMAGED,
    WRITING,
    Checkpoint,
    DamagedError,
    NewerFormatError,
    checkpoint_paths,
    is_milestone,
    mark_milestone,
    read_checkpoint,
    write_checkpoint,
)
from common.errors import UserError

logger = logging.getLogger(__name__)

LEFTOVERS = (f"{WRITING}*", f"{DAMAGED}*", ".removing-*")
"""Folders that a killed process may leave: a partly written checkpoint, a damaged one, one being removed."""


class Checkpoints:
    """The checkpoints of one run. One process writes them; any process may read them."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        """Take the folder of the checkpoints and how many of the latest to keep, not counting milestones."""
        self.folder, self.keep = folder, keep
        self._current_step: int | None = None
        """Step of the checkpoint last written or read: intact, and holding the current state."""
        self._damaged: set[Path] = set()
        """Checkpoints that were read and found to be damaged."""

    def write(
        self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, milestone: bool = False
    ) -> None:
        """Write a checkpoint after `step` steps and remove those that are no longer kept.

        A kill at any moment, or a full disk, leaves the previous checkpoints with or without the new one. Raise OSError if the
        system fails, FileExistsError if a checkpoint of this step exists that is not damaged: another process writes to the folder.
        """
        folder = self.folder / f"step-{step:09d}"
        if step == self._current_step:
            if milestone:
                mark_milestone(folder)
            return
        self.remove_leftovers()
        replaces = step in checkpoint_paths(self.folder)
        if replaces and (reason := self._reason_to_keep(folder)):
            raise FileExistsError(
                errno.EEXIST, f"it already exists and {reason}; is another process writing to this folder?"
            )
        milestone = milestone or (replaces and is_milestone(folder))
        checkpoint = Checkpoint(step, dict(tensors), dict(values))
        write_checkpoint(folder, checkpoint, milestone=milestone, replaces=replaces)
        self._current_step = step
        self._damaged.discard(folder)
        self._prune(step)

    def read_newest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, or None; damaged ones are skipped with a warning.

        Raise UserError, with nothing changed, if a checkpoint newer than all intact ones cannot be read.
        """
        paths = self._paths()
        for step in sorted(paths, reverse=True):
            path = paths[step]
            try:
                checkpoint = read_checkpoint(path)
            except DamagedError as error:
                logger.warning("checkpoint %s is damaged (%s); using the previous one", path, error)
                self._damaged.add(path)
                continue
            except OSError as error:
                raise _unreadable(self.folder, f"checkpoint {path.name}", error) from error
            except NewerFormatError as error:
                raise UserError(
                    f"out = {self.folder.parent}: checkpoint {path.name} {error}. Nothing was changed: resume with that version, or"
                    " use another folder to start over."
                ) from error
            self._current_step = checkpoint.step
            return checkpoint
        return None

    def _paths(self) -> dict[int, Path]:
        try:
            return checkpoint_paths(self.folder)
        except OSError as error:
            raise _unreadable(self.folder, "the folder of the checkpoints", error) from error

    def remove_leftovers(self) -> None:
        """Remove the temporary folders that a killed process left while writing or removing."""
        for pattern in LEFTOVERS:
            for leftover in self.folder.glob(pattern):
                _remove_tree(leftover)

    def _prune(self, newest: int) -> None:
        """Remove damaged checkpoints and all but the latest `keep`; keep milestones, and any after `newest` that may be intact."""
        intact = []
        for step, path in sorted(checkpoint_paths(self.folder).items()):
            try:
                if is_milestone(path):
                    continue
            except OSError as error:
                logger.warning("checkpoint %s cannot be read (%s) and is kept", path, error.strerror or error)
                continue
            if path.is_symlink():
                continue  # a user moved it to a disk with more space
            if path in self._damaged or (step > newest and self._reason_to_keep(path) is None):
                self._remove(path)
            elif step <= newest:
                intact.append(path)
        for path in intact[: -self.keep]:
            self._remove(path)
        self.remove_leftovers()

    def _remove(self, path: Path) -> None:
        """Rename a checkpoint atomically, so that a kill leaves no incomplete one under its name; it is removed as a leftover."""
        try:
            path.rename(path.with_name(path.name.replace("step-", ".removing-")))
        except OSError as error:
            logger.warning("checkpoint %s cannot be removed (%s)", path, error.strerror or error)
        self._damaged.discard(path)

    def _reason_to_keep(self, path: Path) -> str | None:
        """Return why a checkpoint must not be removed: it is intact or cannot be read; None if it is damaged."""
        if path in self._damaged:
            return None
        try:
            read_checkpoint(path)
        except DamagedError:
            return None
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        except NewerFormatError as error:
            return str(error)
        return "is intact"


def _unreadable(folder: Path, what: str, error: OSError) -> UserError:
    """Return the error for checkpoints that the system cannot read."""
    return UserError(
        f"out = {folder.parent}: {what} cannot be read ({error.strerror or error}). It may be intact, so the run ends and nothing"
        " was removed. Fix read access (permissions, file system, open files) and run the same command again."
    )


def _remove_tree(path: Path) -> None:
    """Remove a folder, or a file or link at its path; log a warning if it cannot be removed."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("%s cannot be removed (%s)", path, error.strerror or error)
