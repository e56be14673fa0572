"""A few fuzzed images and recipes under a fixed seed; `python -m benchmarks.fuzz` runs ten thousand, and whole runs."""

import pytest

from benchmarks.fuzz import fuzz


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "cases"), [("images", 150), ("recipes", 40)])
def test_what_users_hand_in_ends_well_or_in_one_message(name: str, cases: int) -> None:
    endings = fuzz(name, cases=cases, start=11)
    assert endings.total() >= cases and endings[False] > 0
