"""The files of one checkpoint: written atomically, read and verified.

A checkpoint is a folder `step-<steps done>` of safetensors and JSON with checksums; nothing is pickled. It is damaged only if a
file is missing, a checksum does not match or the format is invalid.
"""

import errno
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from common.files import fsync, list_folder, path_exists, raise_if_dangling
from common.json_text import from_exact_json, to_exact_json
from common.tensor_files import SafetensorError, read_tensors, write_tensors

TENSORS, VALUES, SUMS, MILESTONE = "state.safetensors", "state.json", "SHA256SUMS", "milestone"
"""Files of a checkpoint. The sums have the format of `sha256sum -c`; the milestone file is empty and marks checkpoints that are
kept permanently."""
WRITING, DAMAGED = ".writing-", ".damaged-"
"""Prefixes, instead of `step-`, of a checkpoint that is being written and of a damaged one that is being replaced."""
FORMAT = 2
"""Version of the files' format; files without a version are of version 1. 2: numbers that are not finite (`to_exact_json`)."""


class DamagedError(Exception):
    """A file of a checkpoint is missing, its checksum does not match, or its format is invalid."""


class NewerFormatError(Exception):
    """A checkpoint is intact and was written by a later version of this program."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of one checkpoint."""

    step: int
    """Optimizer steps done; training resumes with this step's batch."""
    tensors: dict[str, Tensor]
    """Every tensor of the state by its dotted name."""
    values: dict[str, Any]
    """The rest of the state, as JSON values."""
    checksum: str = ""
    """Hash of the checksums of its files, for one that was read."""


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, milestone: bool, replaces: bool) -> None:
    """Write a checkpoint atomically to `folder`, which exists if `replaces`.

    It is written to a temporary folder, flushed to disk and renamed: a kill at any moment, or a full disk, never leaves an
    incomplete checkpoint under its name. Raise OSError if the system fails.
    """
    temporary = folder.with_name(folder.name.replace("step-", WRITING))
    if os.path.lexists(temporary):
        raise FileExistsError(errno.EEXIST, "a leftover exists at this path and cannot be removed", str(temporary))
    try:
        _write_files(temporary, checkpoint, milestone=milestone)
        if replaces:
            folder.rename(folder.with_name(folder.name.replace("step-", DAMAGED)))
        temporary.rename(folder)
        fsync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_files(folder: Path, checkpoint: Checkpoint, *, milestone: bool) -> None:
    """Write the files of a checkpoint into a new folder and flush them to disk."""
    folder.mkdir(parents=True)
    # On a CPU nothing is copied here: the loop waits while it saves.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    write_tensors(tensors, folder / TENSORS)
    description = {"format": FORMAT, "step": checkpoint.step, "values": checkpoint.values}
    (folder / VALUES).write_text(to_exact_json(description), encoding="utf-8")
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in _sums(folder).items()))
    if milestone:
        (folder / MILESTONE).touch()
    for path in (folder / TENSORS, folder / VALUES, folder / SUMS, folder):
        fsync(path)


def mark_milestone(folder: Path) -> None:
    """Mark an existing checkpoint as kept permanently."""
    (folder / MILESTONE).touch()
    fsync(folder)


def is_milestone(folder: Path) -> bool:
    """Return whether a checkpoint is kept permanently. Raise OSError if that cannot be read: the checkpoint may be one."""
    return path_exists(folder / MILESTONE) or (folder / MILESTONE).is_symlink()


def read_checkpoint(folder: Path, *, any_name: bool = False) -> Checkpoint:
    """Read one checkpoint and verify its checksums; with `any_name`, its folder may be called other than in its run.

    Raise DamagedError if it is damaged, NewerFormatError if a later version wrote it, OSError if the system cannot read it.
    """
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        expected = [f"{digest}  {name}" for name, digest in _sums(folder).items()]
        if not set(expected) <= set(lines):
            raise DamagedError("the checksums do not match")
        described = from_exact_json((folder / VALUES).read_text(encoding="utf-8"))
        _check_format(described, step=None if any_name else int(folder.name.removeprefix("step-")))
        checksum = hashlib.sha256("\n".join(expected).encode()).hexdigest()
        return Checkpoint(described["step"], read_tensors(folder / TENSORS), described["values"], checksum)
    except FileNotFoundError as error:
        for name in (SUMS, TENSORS, VALUES):
            raise_if_dangling(folder / name)
        raise DamagedError(f"{Path(error.filename or folder).name} is missing") from error
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


def checkpoint_paths(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their steps; an empty dictionary if the folder is missing. Raise OSError otherwise."""
    entries = list_folder(folder, r"step-\d{9,}")
    return {int(entry.name.removeprefix("step-")): folder / entry.name for entry in entries if entry.is_dir()}


def _check_format(described: Any, *, step: int | None) -> None:
    """Raise DamagedError for content that no version writes, NewerFormatError for content that a later version writes."""
    if not isinstance(described, dict) or type(version := described.get("format", 1)) is not int:
        raise DamagedError(f"{VALUES} does not describe a checkpoint")
    if version > FORMAT:
        raise NewerFormatError(
            f"was written by a later version of this program (format {version}, this version supports {FORMAT})"
        )
    if type(described["step"]) is not int or (step is not None and described["step"] != step):
        raise DamagedError(f"{VALUES} is of step {described['step']}, the folder of step {step}")
    if not isinstance(described["values"], dict):
        raise DamagedError(f"the values in {VALUES} are not a mapping")


def _sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a checkpoint's files by name, computed in chunks since files may be larger than memory."""
    sums = {}
    for name in (TENSORS, VALUES):
        with (folder / name).open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
