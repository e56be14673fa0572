"""Durations on the command line: 30m, 2h, 1h30m, 90s."""

import re

from common.errors import UserError

_UNITS = {"d": 86400, "h": 3600, "m": 60, "min": 60, "s": 1}
_PART = r"(\d+(?:\.\d+)?)(d|h|min|m|s)"


def read_duration(text: str, where: str) -> float:
    """Return the seconds of a duration such as 1h30m; raise UserError that names `where` for anything else."""
    compact = text.replace(" ", "")
    if not re.fullmatch(f"(?:{_PART})+", compact):
        raise UserError(
            f"{where} {text}: is not a duration. Write hours, minutes or seconds, such as 2h, 45m or 1h30m."
        )
    seconds = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_PART, compact))
    if seconds <= 0:
        raise UserError(f"{where} {text}: must be above zero, such as 2h.")
    return seconds


def format_seconds(seconds: float) -> str:
    """Return seconds as a duration that `read_duration` reads, to the minute from ten minutes on."""
    if seconds < 600:
        return f"{seconds:.0f}s" if seconds < 60 else f"{seconds / 60:.3g}m"
    hours, minutes = divmod(round(seconds / 60), 60)
    return "".join(part for part in (f"{hours}h" if hours else "", f"{minutes}m" if minutes or not hours else ""))
