"""Pictures in a study's folder: small, made once, and read again without what they were made from."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from common.errors import UserError
from recipes.reports.picture_files import digest_of, encode, fit, in_a_row, stored_pictures


def never() -> Mapping[str, bytes]:
    """Fail: stored pictures are not made again."""
    raise UserError("the data is gone")


def solid(value: int) -> bytes:
    """Return a small picture."""
    return encode(np.full((4, 4, 3), value, dtype=np.uint8), 1000)


def test_stored_pictures_are_read_without_what_they_were_made_from(tmp_path: Path) -> None:
    first = stored_pictures(tmp_path, "mistake", "1", lambda: {"a.png": solid(1), "b.png": solid(2)})
    assert stored_pictures(tmp_path, "mistake", "1", never) == first
    assert [picture.file for picture in first.values()] == ["figures/mistake_1.png", "figures/mistake_2.png"]
    assert (tmp_path / first["b.png"].file).read_bytes() == solid(2)
    assert first["a.png"].uri.startswith("data:image/png;base64,iVBOR")


def test_pictures_of_other_content_are_made_again_and_the_old_ones_removed(tmp_path: Path) -> None:
    stored_pictures(tmp_path, "mistake", "1", lambda: {"a": solid(1), "b": solid(2)})
    stored_pictures(tmp_path, "crops", "1", lambda: {"c": solid(4)})
    assert stored_pictures(tmp_path, "mistake", "2", lambda: {"d": solid(3)})["d"].file == "figures/mistake_1.png"
    assert {path.name for path in (tmp_path / "figures").glob("*.png")} == {"mistake_1.png", "crops_1.png"}
    assert list(stored_pictures(tmp_path, "crops", "1", never)) == ["c"]


def test_a_lost_picture_is_made_again(tmp_path: Path) -> None:
    first = stored_pictures(tmp_path, "mistake", "1", lambda: {"a": solid(1)})
    (tmp_path / first["a"].file).unlink()
    with pytest.raises(UserError, match="the data is gone"):
        stored_pictures(tmp_path, "mistake", "1", never)
    assert stored_pictures(tmp_path, "mistake", "1", lambda: {"a": solid(1)}) == first


@pytest.mark.parametrize(
    "index",
    ["{", "[]", '{"mistake": 3}', json.dumps({"mistake": {"digest": "1", "files": {"a": "../../secret.png"}}})],
)
def test_a_damaged_index_is_written_again_and_leads_nowhere_else(index: str, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "pictures.json").write_text(index)
    pictures = stored_pictures(tmp_path, "mistake", "1", lambda: {"a": solid(1)})
    assert pictures["a"].file == "figures/mistake_1.png"
    assert stored_pictures(tmp_path, "mistake", "1", never) == pictures


def test_a_detailed_picture_becomes_smaller_until_it_fits() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    assert len(encode(noise, 3500)) <= 3500
    assert encode(noise, 3500).startswith(b"\xff\xd8")
    assert encode(np.zeros((8, 8, 3), dtype=np.uint8), 3500).startswith(b"\x89PNG")


def test_small_images_are_enlarged_pixel_by_pixel_and_large_ones_reduced() -> None:
    image = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    assert fit(image, 96).shape == (96, 72, 3)
    assert (fit(image, 96)[::12, ::12] == image).all()
    assert fit(np.zeros((400, 100, 3), dtype=np.uint8), 96).shape == (96, 24, 3)
    assert in_a_row([image, image[:4]], gap=1).shape == (8, 13, 3)


def test_the_digest_depends_on_the_content_and_not_on_its_order() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})
