"""What the images of a folder are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from recipes.sizing.facts import ImageFacts, read_facts
from recipes.study.specification import REPOSITORY

RECIPE = REPOSITORY / "recipes" / "my_images" / "finetune.yaml"
MakeFolder = Callable[..., Path]


def facts_of(settings: dict[str, Any], lines: list[str] | None = None) -> ImageFacts:
    return read_facts(RECIPE, settings, [].append if lines is None else lines.append)


@pytest.fixture
def folder(tmp_path: Path) -> MakeFolder:
    """Return a function that writes images of the given sizes (height, width) by class."""

    def write(sizes: dict[str, list[tuple[int, int]]], *, gray: bool = False) -> Path:
        generator = np.random.default_rng(0)
        for name, of_class in sizes.items():
            (tmp_path / name).mkdir()
            for number, (height, width) in enumerate(of_class):
                pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
                pixels = pixels[..., :1].repeat(3, axis=2) if gray else pixels
                Image.fromarray(pixels).save(tmp_path / name / f"{number:03}.png")
        return tmp_path

    return write


def test_facts_are_those_after_the_hold_outs(folder: MakeFolder) -> None:
    path = folder({"a": [(40, 60)] * 40, "b": [(80, 50)] * 20})
    facts = facts_of({"data.source": str(path)})
    assert facts.labeled == pytest.approx(60 * 0.65, abs=2)
    assert facts.labels_per_class == int(np.median(facts.class_counts))
    assert facts.imbalance == pytest.approx(2.0, abs=0.1)
    assert facts.side in (40, 45, 50)
    assert (facts.gray, facts.channels, facts.unlabeled) == (False, 3, 0)


def test_rgb_with_equal_channels_is_gray(folder: MakeFolder) -> None:
    assert facts_of({"data.source": str(folder({"a": [(20, 20)] * 8, "b": [(20, 20)] * 8}, gray=True))}).gray


def test_images_of_one_channel_need_no_normalization(folder: MakeFolder) -> None:
    path = folder({"a": [(20, 20)] * 8, "b": [(20, 20)] * 8}, gray=True)
    facts = facts_of({"data.source": str(path), "data.channels": 1})
    assert (facts.gray, facts.channels) == (True, 1)


def test_images_without_a_label_are_counted_apart(folder: MakeFolder) -> None:
    sizes = {"a": [(20, 20)] * 10, "b": [(20, 20)] * 10, "unlabeled": [(20, 20)] * 50}
    facts = facts_of({"data.source": str(folder(sizes))})
    assert facts.images == facts.labeled + facts.unlabeled
    assert (facts.unlabeled, facts.labeled) == (50, sum(facts.class_counts))
    assert facts.labeled < 20


def test_one_class_is_refused(folder: MakeFolder) -> None:
    path = folder({"a": [(20, 20)] * 10})
    with pytest.raises(UserError, match="has a single class, 'a'; a classifier needs at least two"):
        facts_of({"data.source": str(path)})


def test_a_corrupt_image_is_no_reason_to_stop(folder: MakeFolder) -> None:
    path = folder({"a": [(20, 20)] * 10, "b": [(20, 20)] * 10})
    (path / "a" / "000.png").write_bytes(b"no image")
    assert facts_of({"data.source": str(path)}).side == 20


def test_corrupt_images_alone_are_named(folder: MakeFolder) -> None:
    path = folder({"a": [(20, 20)] * 10, "b": [(20, 20)] * 10})
    for file in path.glob("*/*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"\.png"):
        facts_of({"data.source": str(path)})


def test_warnings_come_before_the_error(folder: MakeFolder, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also those of the reading without labels; nothing is said twice."""
    path = folder({"a": [(20, 20)] * 10, "b": [(20, 20)] * 10})
    outside = tmp_path_factory.mktemp("outside")
    for number in range(5):
        (path / "a" / f"{number:03}.png").rename(outside / f"{number:03}.png")
    for name in ("c", "d"):
        (path / name).symlink_to(outside)
    for file in [*path.glob("*/*.png"), *outside.glob("*.png")]:
        file.write_bytes(b"no image")
    lines = list[str]()
    with pytest.raises(UserError, match=r"\.png"):
        facts_of({"data.source": str(path)}, lines)
    assert len(set(lines)) == len(lines)
    assert sum("are links to the same folder" in line for line in lines) == 1


def test_test_images_of_every_class_are_counted(folder: MakeFolder) -> None:
    facts = facts_of({"data.source": str(folder({"a": [(20, 20)] * 20, "b": [(20, 20)] * 3, "c": [(20, 20)]}))})
    assert facts.test_counts == {"a": 4, "b": 1, "c": 0}


def test_white_images_are_named(tmp_path: Path) -> None:
    for name, value in (("a", 255), ("b", 9)):
        (tmp_path / name).mkdir()
        for number in range(8):
            Image.fromarray(np.full((9, 9, 3), value, np.uint8)).save(tmp_path / name / f"{number}.png")
    lines: list[str] = []
    facts_of({"data.source": str(tmp_path)}, lines)
    assert len([line for line in lines if "5 of 10 decoded images are entirely white" in line]) == 1
