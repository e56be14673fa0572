"""Some fuzzed images, layouts, recipes, studies with a fixed seed; `python -m benchmarks.fuzz` runs many more, and whole runs."""

import pytest

from benchmarks.fuzz import fuzz


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "cases"), [("images", 150), ("layouts", 60), ("recipes", 40), ("studies", 60)])
def test_fuzzed_input_succeeds_or_ends_in_one_message(name: str, cases: int) -> None:
    outcomes = fuzz(name, cases=cases, start=11)
    assert outcomes.total() >= cases and outcomes[False] > 0
