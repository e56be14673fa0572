"""Random erasing: rectangles compared with timm, and their application."""

import math
import random

import numpy as np
import pytest
import torch
from timm.data.random_erasing import RandomErasing

from common.data.augment.erasing import Erasures, draw_erasure, erase, stack_erasures
from common.rng import generator


def boxes(size, probability, count=3000):
    drawn = [draw_erasure(generator(1, index=index), (size, size), probability) for index in range(count)]
    return [box for box in drawn if box is not None], drawn


def test_rectangles_have_the_sizes_and_frequency_of_timm():
    ours, drawn = boxes(32, 0.25)
    assert len(ours) / len(drawn) == pytest.approx(0.25, abs=0.03)
    random.seed(0)
    expected_sizes = []
    reference = RandomErasing(1.0, mode="pixel", device="cpu")
    for _ in range(1000):
        erased = reference(torch.full((3, 32, 32), 7.0))[0] != 7.0
        rows, columns = erased.any(dim=1).nonzero(), erased.any(dim=0).nonzero()
        expected_sizes.append((int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1))
    ours, _ = boxes(32, 1.0)
    for their_column, our_column in ((0, 2), (1, 3)):
        expected, actual = [box[their_column] for box in expected_sizes], [box[our_column] for box in ours]
        assert np.mean(actual) == pytest.approx(np.mean(expected), rel=0.06)
        assert np.std(actual) == pytest.approx(np.std(expected), rel=0.1)


def test_rectangles_are_inside_the_image_and_reach_every_edge():
    drawn, _ = boxes(24, 1.0)
    for top, left, height, width in drawn:
        assert 0 <= top <= 24 - height and 0 <= left <= 24 - width and height < 24 and width < 24
        assert 0.3 / 2 < height / width < 2 / 0.3
        assert height * width <= 24 * 24 * (1 / 3) + 24
    assert min(box[0] for box in drawn) == min(box[1] for box in drawn) == 0
    assert max(box[0] + box[2] for box in drawn) == max(box[1] + box[3] for box in drawn) == 24


def test_no_rectangle_if_the_probability_is_zero_or_none_fits():
    assert boxes(24, 0.0, count=50)[0] == []
    assert all(box is None or min(box[2:]) == 0 for box in boxes(1, 1.0, count=50)[1])


def test_erase_changes_only_the_rectangle():
    noise = [np.arange(3 * 2 * 4, dtype=np.float32), -np.arange(3 * 1 * 1, dtype=np.float32) - 1]
    erasures = stack_erasures([((0, 1, 2, 2, 4), noise[0]), ((2, 0, 0, 1, 1), noise[1])])
    images = torch.full((3, 3, 6, 6), math.pi)
    expected = images.clone()
    expected[0, :, 1:3, 2:6] = torch.arange(24.0).view(3, 2, 4)
    expected[2, :, 0, 0] = torch.tensor([-1.0, -2.0, -3.0])
    assert torch.equal(erase(images, erasures), expected)


def test_erase_accepts_no_erasures():
    images = torch.zeros(2, 3, 4, 4)
    assert erase(images, None) is images
    empty = stack_erasures([])
    assert isinstance(empty, Erasures) and empty.boxes.shape == (0, 5)
    assert torch.equal(erase(images, empty), torch.zeros(2, 3, 4, 4))
