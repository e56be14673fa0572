"""The result of a run, as its folder holds it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import is_there

RESULT = "result.json"


@dataclass(frozen=True)
class Result:
    """What a run ended with. A verdict other than `finished` is a result too: a crash belongs in the table.

    Seconds are wall-clock seconds of the stage itself; metrics are percent where they are accuracies.
    """

    verdict: str
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
    """What a crash was, such as `non_finite_loss`; empty for every other verdict."""

    @property
    def is_final(self) -> bool:
        """Tell whether the run is over; an interrupted one goes on by the same command."""
        return self.verdict != "interrupted"

    @property
    def is_usable(self) -> bool:
        """Tell whether another stage can start from this run: a network that crashed holds no weights worth it."""
        return self.is_final and self.verdict != "crash"


def read_result(folder: Path) -> Result | None:
    """Return the result in a run's folder, or None before there is one."""
    path = folder / RESULT
    try:
        if not is_there(path):
            return None
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        metrics = {name: float(value) for name, value in content["metrics"].items() if _is_number(value)}
        return Result(
            verdict=str(content["verdict"]),
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
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path}: not the result of a run ({error!r}). Delete this file alone: the run goes on from its last checkpoint."
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). Let this process read it (rights, file system)."
        ) from error


def _is_number(value: Any) -> bool:
    """Tell whether a metric is a finite number (others, such as accuracies by class, stay in the run's file)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
