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
    advised = int(re.findall(r"Try (\d+)", text)[0])
    dino["warmup_teacher_temp_epochs"] = advised
    assert not warnings_about("warmup_teacher_temp_epochs", dino=dino, train={"epochs": epochs})
