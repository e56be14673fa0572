"""Checkpoints on the disk: written whole or not at all, the last ones and the milestones kept, the newest whole one read.

A checkpoint is a folder `step-<steps done>` of safetensors and JSON with a checksum; nothing is pickled. It is damaged when a
file is missing, a checksum is wrong or a format is wrong, and by nothing else: what the system cannot read at the moment
(rights, a lost file system, too many open files) may be whole, so the run ends and the folder stays as it is.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from common.errors import UserError
from common.files import flush, is_there, list_folder, refuse_dangling
from common.tensor_files import SafetensorError, read_tensors, write_tensors

logger = logging.getLogger(__name__)

TENSORS, VALUES, SUMS, MILESTONE = "state.safetensors", "state.json", "SHA256SUMS", "milestone"
"""Files of a checkpoint. The sums are as `sha256sum -c` reads them; the last one is empty, and stands only in those that are
kept for ever."""
LEFTOVERS = (".writing-*", ".damaged-*", ".removing-*")
"""Folders that a kill may leave: one not yet written, one proven damaged, one no longer kept."""


FORMAT = 1
"""Version of what a checkpoint's files hold; those without one are of the first."""


class DamagedError(Exception):
    """A file of a checkpoint is missing, or its checksum or format is wrong."""


class NewerFormatError(Exception):
    """A checkpoint is whole and was written by a later version of this program."""


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
        self._damaged: set[Path] = set()
        """Those that were read and proven damaged."""

    def write(
        self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, milestone: bool = False
    ) -> None:
        """Write a checkpoint of `step` done steps and drop those that are no longer kept. Errors are the system's own.

        It is written to a temporary folder, flushed to the disk and renamed: a kill at any moment, or a disk that is full,
        leaves either the former checkpoints or these and the new one; never a torn one under a checkpoint's name.
        FileExistsError where a checkpoint of this step is there that is not proven damaged: another process writes here.
        """
        final = self.folder / f"step-{step:09d}"
        if step == self._whole_step:
            if milestone:
                (final / MILESTONE).touch()
                flush(final)
            return
        self.remove_leftovers()
        temporary = self.folder / f".writing-{step:09d}"
        if os.path.lexists(temporary):
            raise FileExistsError(errno.EEXIST, "it is in the way and cannot be removed", str(temporary))
        try:
            replaced = step in checkpoint_paths(self.folder)
            if replaced and (reason := self._whole_or_unknown(final)):
                raise FileExistsError(
                    errno.EEXIST, f"it is there already and {reason}; does another process write here?"
                )
            milestone = milestone or (replaced and _is_milestone(final))
            _write_files(temporary, step, tensors, values, milestone=milestone)
            if replaced:
                final.rename(self.folder / f".damaged-{step:09d}")
            temporary.rename(final)
            flush(self.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._whole_step = step
        self._damaged.discard(final)
        self._prune(step)

    def read_newest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None; a damaged one is passed over and the log says so.

        Raise UserError, with nothing touched, where one that is newer than all whole ones cannot be read.
        """
        paths = self._paths()
        for step in sorted(paths, reverse=True):
            path = paths[step]
            try:
                checkpoint = _read(path)
            except DamagedError as error:
                logger.warning("checkpoint %s is damaged (%s); going back to the one before it", path, error)
                self._damaged.add(path)
                continue
            except OSError as error:
                raise _unreadable(self.folder, f"checkpoint {path.name}", error) from error
            except NewerFormatError as error:
                raise UserError(
                    f"out = {self.folder.parent}: checkpoint {path.name} {error}. Nothing was changed: go on with that version, or"
                    " name another folder to begin anew."
                ) from error
            self._whole_step = checkpoint.step
            return checkpoint
        return None

    def _paths(self) -> dict[int, Path]:
        try:
            return checkpoint_paths(self.folder)
        except OSError as error:
            raise _unreadable(self.folder, "the folder of the checkpoints", error) from error

    def remove_leftovers(self) -> None:
        """Remove what a kill left of unfinished writing and of removing."""
        for pattern in LEFTOVERS:
            for leftover in self.folder.glob(pattern):
                _remove_tree(leftover)

    def _prune(self, newest: int) -> None:
        """Drop all but the last `keep`, and the damaged ones. Milestones stay, and beyond the newest whatever may be whole."""
        passing = []
        for step, path in sorted(checkpoint_paths(self.folder).items()):
            try:
                if _is_milestone(path):
                    continue
            except OSError as error:
                logger.warning(
                    "checkpoint %s cannot be looked at (%s) and is left as it is", path, error.strerror or error
                )
                continue
            if path.is_symlink():
                continue  # somebody moved it to where there is more room
            if path in self._damaged or (step > newest and self._whole_or_unknown(path) is None):
                self._remove(path)
            elif step <= newest:
                passing.append(path)
        for path in passing[: -self.keep]:
            self._remove(path)
        self.remove_leftovers()

    def _remove(self, path: Path) -> None:
        """Take a checkpoint out of sight in one step, so that a kill leaves no torn one under its name; then remove it."""
        try:
            path.rename(path.with_name(path.name.replace("step-", ".removing-")))
        except OSError as error:
            logger.warning("checkpoint %s cannot be removed (%s)", path, error.strerror or error)
        self._damaged.discard(path)

    def _whole_or_unknown(self, path: Path) -> str | None:
        """Return in words that a checkpoint is whole or cannot be read; None where it is proven damaged."""
        if path in self._damaged:
            return None
        try:
            _read(path)
        except DamagedError:
            return None
        except OSError as error:
            return f"cannot be read ({error.strerror or error})"
        except NewerFormatError as error:
            return str(error)
        return "whole"


def checkpoint_paths(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their steps; none where there is no folder. Errors are the system's own."""
    found = list_folder(folder, r"step-\d{9,}")
    return {int(entry.name.removeprefix("step-")): folder / entry.name for entry in found if entry.is_dir()}


def _unreadable(folder: Path, what: str, error: OSError) -> UserError:
    """Return the error of a run whose checkpoints the system does not let it read."""
    return UserError(
        f"out = {folder.parent}: {what} cannot be read ({error.strerror or error}). It may be whole, so the run ends here and"
        " nothing was removed. Let this process read it (rights, file system, open files), and give the same command again."
    )


def _is_milestone(path: Path) -> bool:
    """Tell whether a checkpoint is kept for ever. Errors are the system's own: one that cannot be looked at may be."""
    return is_there(path / MILESTONE) or (path / MILESTONE).is_symlink()


def _remove_tree(path: Path) -> None:
    """Remove a folder, or the file or link in its place; what cannot be removed stays, and the log says why."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("%s cannot be removed (%s)", path, error.strerror or error)


def _write_files(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, milestone: bool
) -> None:
    """Write the files of a checkpoint into a new folder, and all of it onto the disk."""
    folder.mkdir(parents=True)
    # On a CPU nothing is copied here: the loop stands still while it saves.
    write_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / TENSORS)
    (folder / VALUES).write_text(json.dumps({"format": FORMAT, "step": step, "values": dict(values)}))
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in _sums(folder).items()))
    if milestone:
        (folder / MILESTONE).touch()
    for path in (folder / TENSORS, folder / VALUES, folder / SUMS, folder):
        flush(path)


def _read(path: Path) -> Checkpoint:
    """Read one checkpoint and hold it against its checksums.

    DamagedError where that proves it damaged; every other OSError is one of the system, whatever the checkpoint is.
    """
    try:
        lines = (path / SUMS).read_text().splitlines()
        if not {f"{digest}  {name}" for name, digest in _sums(path).items()} <= set(lines):
            raise DamagedError("its checksums do not fit")
        described = json.loads((path / VALUES).read_text())
        _check_format(described, step=int(path.name.removeprefix("step-")))
        return Checkpoint(described["step"], read_tensors(path / TENSORS), described["values"])
    except FileNotFoundError as error:
        for name in (SUMS, TENSORS, VALUES):
            refuse_dangling(path / name)
        raise DamagedError(f"{Path(error.filename or path).name} is missing") from error
    except (
        IsADirectoryError,
        NotADirectoryError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        SafetensorError,
    ) as error:
        raise DamagedError(str(error)) from error


def _check_format(described: Any, *, step: int) -> None:
    """Raise DamagedError for a description that no version writes, NewerFormatError for one that a later version writes."""
    if not isinstance(described, dict) or type(version := described.get("format", 1)) is not int:
        raise DamagedError(f"{VALUES} describes no checkpoint")
    if version > FORMAT:
        raise NewerFormatError(
            f"was written by a later version of this program (format {version}, this one has {FORMAT})"
        )
    if type(described["step"]) is not int or described["step"] != step:
        raise DamagedError(f"{VALUES} is of step {described['step']}, the folder of step {step}")
    if not isinstance(described["values"], dict):
        raise DamagedError(f"the values in {VALUES} are no mapping")


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a checkpoint's files by name; read in pieces, as they may be larger than the memory."""
    sums = {}
    for name in (TENSORS, VALUES):
        with (folder / name).open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
