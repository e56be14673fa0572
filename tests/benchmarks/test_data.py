"""The benchmark of the data path: its rows by variant of the resizing kernel."""

import pytest

from benchmarks import data
from common.data.augment import bicubic


def test_a_row_by_variant_resizes_with_that_variant_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    monkeypatch.setattr(bicubic, "resize_by_kernel", lambda *_, variant, **__: used.append(variant))
    monkeypatch.setattr(bicubic, "chosen_variant", lambda: "the fastest")
    image = data.make_images(1, 64, 64)[0]

    def resize() -> None:
        bicubic.resize(image, (32, 32))

    data._resizing_in("another", resize)()
    resize()
    assert used == ["another", "the fastest"]
