"""Result of a run, read from its folder."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import path_exists
from recipes.duplicate_record import DuplicateRecord, read_record

RESULT = "result.json"
DIVERGED = "diverged"
"""Status of a diverged run, `RunStatus.DIVERGED`. Tables that are compared with a paper's print it as the paper does: crash."""


@dataclass(frozen=True)
class Result:
    """Content of a run's result.json. A status other than `finished` is a result, too: a diverged run belongs in the table.

    `seconds` is the wall-clock time of the stage itself. Accuracies in `metrics` are percentages.
    """

    status: str
    reason: str
    step: int
    metrics: Mapping[str, float]
    seconds: float
    images: int
    images_per_second: float
    parameters: int
    train_images: int
    num_processes: int
    kind: str = ""
    """How the run diverged, such as `non_finite_loss`; empty for every other status."""
    duplicates: DuplicateRecord | None = None
    """Images that occur in several parts of the data; None: the run did not look for any."""

    @property
    def is_final(self) -> bool:
        """Return whether the run has ended; an interrupted run has not: the same command resumes it."""
        return self.status != "interrupted"

    @property
    def is_usable(self) -> bool:
        """Return whether another stage can start from this run: the weights of a diverged network are useless."""
        return self.is_final and self.status != DIVERGED


RESULT_FIELDS = tuple(field.name for field in fields(Result) if field.name not in ("metrics", "duplicates"))
"""Names of the numbers and words of a result beside its metrics."""


def read_result(folder: Path) -> Result | None:
    """Return the result in a run's folder, or None if there is none yet."""
    path = folder / RESULT
    try:
        if not path_exists(path):
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        metrics = {name: float(value) for name, value in content["metrics"].items() if _is_number(value)}
        return Result(
            status=str(content["status"]),
            reason=str(content["reason"] or ""),
            step=int(content["step"]),
            metrics=metrics,
            seconds=float(content["seconds"]),
            images=int(content["images"]),
            images_per_second=float(content["images_per_second"]),
            parameters=int(content["parameters"]),
            train_images=int(content["train_images"]),
            num_processes=int(content["num_processes"]),
            kind=str(content.get("kind") or ""),
            duplicates=read_record(content),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path}: not the result of a run ({error!r}). Delete only this file: the run resumes from its last checkpoint."
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). Make it readable, or, if it is no file, delete it."
        ) from error


def _is_number(value: Any) -> bool:
    """Return whether a metric is a finite number. Other metrics, such as per-class accuracies, are not read from the file."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
