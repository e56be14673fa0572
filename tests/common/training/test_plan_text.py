"""The text of `--dry-run`: a fact per line, its name in a column of one width, warnings last."""

from common.training.plan_text import image_counts, plan_text, trained_part


def test_facts_stand_in_a_column_and_warnings_come_last() -> None:
    text = plan_text(network="a network", learning_rate="0.1 (peak)", warnings=iter(["too short", "too high"]))
    assert text.split("\n") == [
        "",
        "network       a network",
        "learning rate 0.1 (peak)",
        "warning       too short",
        "warning       too high",
    ]


def test_splits_that_are_missing_are_not_counted() -> None:
    assert image_counts([1, 2], {"validation": None, "test": [3]}) == "2 for training, 1 for test"


def test_the_trained_part_is_named_only_if_it_is_not_everything() -> None:
    assert trained_part(trained=7, parameters=7, backward_macs=1e9) == {}
    assert trained_part(trained=1_000, parameters=2_000_000, backward_macs=1e9) == {
        "trained": "0.001 M of 2.000 M parameters, backward pass 1.000 GMACs"
    }
