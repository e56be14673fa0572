"""Whether a whole checkpoint is one that a run can go on from: computed by the same numerics, and of the same content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from common.errors import UserError
from common.training.checkpoints import Checkpoint
from common.training.numerics import FIRST


def check_numerics(checkpoint: Checkpoint, numerics: int, folder: Path) -> None:
    """Refuse to go on with a run whose steps so far were computed otherwise."""
    before = checkpoint.values.get("numerics", FIRST)
    if before != numerics:
        raise UserError(
            f"out = {folder}: its {checkpoint.step} steps were computed by another version of this program, which gives other "
            f"numbers for this recipe (numerics {before} there, {numerics} now; CHANGELOG.md tells what changed). Finish it with "
            "that version, or name another folder to begin anew."
        )


@contextmanager
def must_fit(checkpoint: Checkpoint, folder: Path) -> Iterator[None]:
    """Raise UserError for what is raised within the block, in which the checkpoint's content is taken, because it does not fit."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, (UserError, torch.OutOfMemoryError)):
            raise
        raise UserError(
            f"out = {folder}: the checkpoint of step {checkpoint.step} is whole, but does not fit this run"
            f" ({type(error).__name__}: {' '.join(str(error).split())[:300]}). Nothing was changed. Another version of this program"
            " or of its libraries may have written it: go on with that one, or name another folder."
        ) from error
