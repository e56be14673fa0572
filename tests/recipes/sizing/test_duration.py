"""Durations on the command line."""

import pytest

from common.errors import UserError
from recipes.sizing.duration import format_seconds, read_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2h", 7200),
        ("30m", 1800),
        ("30min", 1800),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("90s", 90),
        ("1d", 86400),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert read_duration(text, "--budget") == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours", "-1h", "0h", "1h30", "nan", "2h!"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="--budget .*such as 2h"):
        read_duration(text, "--budget")


@pytest.mark.parametrize("seconds", [1, 59, 60, 90, 599, 600, 3599, 3600, 5400, 86400, 100_000])
def test_formatted_durations_are_read_again(seconds: int) -> None:
    assert read_duration(format_seconds(seconds), "--budget") == pytest.approx(seconds, abs=30, rel=0.01)
