"""Counter-based random streams: fixed values, and no overlap between keys."""

import numpy as np
import pytest

from common.rng import SampleKey, generator, generators

KEYS = [
    {},
    {"seed": 1},
    {"epoch": 1},
    {"index": 1},
    {"repeat": 1},
    {"view": 1},
    {"stream": "policy"},
    {"seed": 1, "epoch": 1},
    {"epoch": 1, "index": 1},
]


def draw(count: int = 1000, **key: int | str) -> list[int]:
    return generator(**{"seed": 0} | key).integers(2**63, size=count).tolist()  # type: ignore[arg-type]


def test_streams_have_fixed_values() -> None:
    """Runs reproduce only if these values never change."""
    assert generator(0).random(2).tolist() == [0.9853676243957121, 0.6763842803950971]
    rng = generator(7, epoch=2, index=5, repeat=1, view=3, stream="policy")
    assert rng.integers(2**32, size=3).tolist() == [1919129789, 421098373, 2518417812]


def test_a_stream_depends_only_on_its_key() -> None:
    np.random.seed(5)
    first = draw(epoch=3)
    draw(epoch=4)
    assert draw(epoch=3) == first


def test_every_field_of_the_key_selects_another_stream() -> None:
    values = [value for key in KEYS for value in draw(**key)]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("seed", [-1, 2**64 - 1])
def test_seeds_are_taken_modulo_2_to_the_64(seed: int) -> None:
    assert draw(seed=seed) == draw(seed=2**64 - 1)


def test_generators_are_those_of_each_key_whatever_was_drawn_before() -> None:
    keys = [SampleKey(0, 0, 5, 0), SampleKey(3, 1, 2**33, 1), SampleKey(0, 2, 5, 0)]
    drawn = [
        (rng.random(number), rng.integers(2**32, size=number, dtype=np.uint32))
        for number, rng in enumerate(generators(-7, keys, stream="policy"), start=1)
    ]
    for number, (key, (uniforms, integers)) in enumerate(zip(keys, drawn, strict=True), start=1):
        rng = generator(-7, epoch=key.epoch, index=key.index, repeat=key.repeat, stream="policy")
        assert np.array_equal(uniforms, rng.random(number))
        assert np.array_equal(integers, rng.integers(2**32, size=number, dtype=np.uint32))
