"""Warnings about DINO's settings: what they say follows from what a run would do, and their remedies end them."""

import re
from typing import Any

import pytest

from common.config import build
from common.training.schedules import linear_warmup_by_epoch
from pretrain.config import PretrainConfig
from pretrain.warnings import config_warnings


def warnings_about(key: str, *, num_images: int = 1000, **values: Any) -> list[str]:
    """Return the warnings about a key of `dino` for a run of 1,000 steps."""
    config = build(PretrainConfig, {"out": "x", **values}, source="a test")
    found = config_warnings(config, num_images=num_images, steps=1000)
    return [text for text in found if text.startswith(f"dino.{key} ")]


@pytest.mark.parametrize("num_images", [3, 20, 31, 32, 200, 4000])
def test_the_advised_number_of_prototypes_is_not_warned_of(num_images: int) -> None:
    (text,) = warnings_about("out_dim", num_images=num_images)
    advised = int(re.findall(r"Try (\d+) or fewer", text)[0])
    assert not warnings_about("out_dim", num_images=num_images, dino={"out_dim": advised})


@pytest.mark.parametrize(("teacher", "warmup"), [(0.1, None), (0.3, None), (0.04, 0.2)])
def test_a_teacher_that_is_no_sharper_than_the_student_is_warned_of(teacher: float, warmup: float | None) -> None:
    dino: dict[str, Any] = {"teacher_temp": teacher}
    if warmup is not None:
        dino |= {"warmup_teacher_temp": warmup, "warmup_teacher_temp_epochs": 3}
    key = "teacher_temp" if warmup is None else "warmup_teacher_temp"
    (text,) = warnings_about(key, dino=dino)
    assert "student_temp = 0.1" in text and "uniform" in text


def test_the_published_temperatures_are_not_warned_of() -> None:
    dino = {"teacher_temp": 0.07, "warmup_teacher_temp": 0.04, "warmup_teacher_temp_epochs": 30}
    for key in ("teacher_temp", "warmup_teacher_temp", "warmup_teacher_temp_epochs"):
        assert not warnings_about(key, dino=dino)


@pytest.mark.parametrize("epochs", [1, 2, 10])
def test_a_temperature_warmup_of_the_whole_run_ends_with_it(epochs: int) -> None:
    values = linear_warmup_by_epoch(0.04, 0.07, epochs=epochs, warmup_epochs=30, steps_per_epoch=1)
    assert (values[:-1] < 0.07).all()
    constant = {"teacher_temp": 0.04, "warmup_teacher_temp": 0.04, "warmup_teacher_temp_epochs": 30}
    assert not warnings_about("warmup_teacher_temp_epochs", dino=constant, train={"epochs": epochs})
    dino = {"teacher_temp": 0.07, "warmup_teacher_temp_epochs": 30}
    (text,) = warnings_about("warmup_teacher_temp_epochs", dino=dino, train={"epochs": epochs})
    assert "before the last epoch" in text
    assert warnings_about("warmup_teacher_temp_epochs", dino=dino, train={"epochs": 30})
    if epochs < 4:
        assert text.endswith("Try dino.warmup_teacher_temp=0.07.")
        dino["warmup_teacher_temp"] = 0.07
    else:
        dino["warmup_teacher_temp_epochs"] = int(re.findall(r"Try (\d+)", text)[0])
    assert not warnings_about("warmup_teacher_temp_epochs", dino=dino, train={"epochs": epochs})


@pytest.mark.parametrize("steps", [1, 7, 8, 79, 1000, 60_000, 2_000_000])
@pytest.mark.parametrize("momentum", [0.5, 0.996, 0.99999, 1.0])
def test_the_advised_momentum_is_lower_and_not_warned_of(steps: int, momentum: float) -> None:
    """For long runs it was rounded to 1, with which the teacher never changes; for short ones it was the value itself."""

    def warned(value: float) -> list[str]:
        config = build(PretrainConfig, {"out": "x", "dino": {"momentum_teacher": value}}, source="a test")
        found = config_warnings(config, num_images=10**6, steps=steps)
        return [text for text in found if text.startswith("dino.momentum_teacher ")]

    for text in warned(momentum):
        if "Train longer" in text:
            assert steps < 41 and momentum <= 0.5
            continue
        advised = float(re.findall(r"Try ([\d.]+)\.", text)[0])
        assert 0.5 <= advised < momentum
        assert not [text for text in warned(advised) if "Train longer" not in text]


@pytest.mark.parametrize(
    ("centering", "word"), [("mean", "the center of"), ("sinkhorn", "the assignment to prototypes of")]
)
def test_a_small_batch_is_warned_of_in_the_words_of_its_centering(centering: str, word: str) -> None:
    config = build(
        PretrainConfig, {"out": "x", "dino": {"centering": centering}, "train": {"batch_size": 16}}, source="a test"
    )
    (text,) = [
        text for text in config_warnings(config, num_images=1000, steps=1000) if text.startswith("train.batch_size")
    ]
    assert word in text
