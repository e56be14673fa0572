"""Weights of a run that has failed: collapsed, or diverged and trained to its end (`status.stop=false`)."""

import json
from pathlib import Path

_FAILED = ("diverged", "collapsed")
"""Beginnings of the statuses of such runs."""


def failure_of_run(weights: Path) -> str | None:
    """Return in words how the run failed whose export has its weights at this path; None for others and where nothing tells it.

    A checkpoint may be from before the failure.
    """
    if weights.parent.name != "export":
        return None
    try:
        result = json.loads((weights.parent.parent / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    status = result.get("status") if isinstance(result, dict) else None
    if not isinstance(status, str) or not status.startswith(_FAILED):
        return None
    return f"{status} ({result.get('reason')})"
