"""Checks that a run can resume from an intact checkpoint: computed by the same numerics, and with the expected content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.checkpoint_files import Checkpoint
from common.errors import UserError
from common.memory import is_out_of_memory
from common.training.numerics import FIRST


def check_numerics(checkpoint: Checkpoint, numerics: int, folder: Path) -> None:
    """Raise UserError if the checkpoint's steps were computed by other numerics than this program's."""
    before = checkpoint.values.get("numerics", FIRST)
    if before != numerics:
        raise UserError(
            f"out = {folder}: its {checkpoint.step} steps were computed by another version of this program, which computes other "
            f"numbers for this recipe (numerics {before} there, {numerics} now; CHANGELOG.md lists what changed). Finish the run "
            "with that version, or use another folder to start over."
        )


@contextmanager
def must_fit(checkpoint: Checkpoint, folder: Path) -> Iterator[None]:
    """Turn errors raised while the block loads the checkpoint's content into a UserError: the content does not fit this run."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, UserError) or is_out_of_memory(error):
            raise
        raise UserError(
            f"out = {folder}: the checkpoint of step {checkpoint.step} is intact, but does not fit this run"
            f" ({type(error).__name__}: {' '.join(str(error).split())[:300]}). Nothing was changed. Another version of this program"
            " or of its libraries may have written it: resume with that version, or use another folder."
        ) from error
