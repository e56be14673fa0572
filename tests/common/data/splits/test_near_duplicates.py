"""Near duplicates: copies that are resized, recompressed or mirrored are found, images that only look alike are not."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from textures import recompress, resize, textures

from common.data.images import ImageArray
from common.data.splits.near_duplicates import MIN_COARSE, MIN_DETAIL, NearIndex, Partners, common_features
from common.data.splits.thumbnails import Thumbnails, features, thumbnail

NUM_IMAGES = 300


def thumbs_of(images: list[ImageArray]) -> Thumbnails:
    """Return the thumbnails of images."""
    return np.stack([thumbnail(image) for image in images])


def compare(first: list[ImageArray], second: list[ImageArray]) -> Partners:
    """Return the near duplicates between two lists of images."""
    thumbs = thumbs_of(second)
    common = common_features(thumbs)
    assert common is not None
    partners = Partners.none(len(first), len(second))
    NearIndex(thumbs, common).compare(thumbs_of(first), 0, partners)
    return partners


CHANGES: dict[str, Callable[[ImageArray], ImageArray]] = {
    "none": lambda image: image,
    "smaller": lambda image: resize(image, 40, 40),
    "larger, other ratio": lambda image: resize(image, 80, 100),
    "quality 50": lambda image: recompress(image, 50),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "mirrored, smaller, quality 75": lambda image: recompress(resize(image[:, ::-1], 48, 48), 75),
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=20),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_among_other_images(change: str) -> None:
    second, others = textures(NUM_IMAGES, seed=0), textures(NUM_IMAGES, seed=1)
    copies = [CHANGES[change](image) for image in second[::3]]
    partners = compare([*others, *copies], second)
    assert (partners.of_first[:NUM_IMAGES] == -1).all()
    expected = np.arange(0, NUM_IMAGES, 3)
    assert (partners.of_first[NUM_IMAGES:] == expected).mean() >= 0.99
    assert (partners.of_second[expected] == NUM_IMAGES + np.arange(len(expected))).mean() >= 0.99
    assert (np.delete(partners.of_second, expected) == -1).all()


def test_images_that_are_alike_from_afar_only_are_not_duplicates() -> None:
    images = textures(40, seed=0)
    fine = textures(40, seed=2, strength=12)
    blurred = [resize(resize(image, 8, 8), 64, 64) for image in images]

    def with_detail(detail: list[ImageArray]) -> list[ImageArray]:
        rest = [each.astype(float) - resize(resize(each, 8, 8), 64, 64) for each in detail]
        return [np.clip(image + part, 0, 255).astype(np.uint8) for image, part in zip(blurred, rest, strict=True)]

    first, second = with_detail(fine), with_detail(fine[::-1])
    coarse, again = (features(thumbs_of(each)).coarse for each in (first, second))
    assert ((coarse * again).sum(1) > MIN_COARSE).mean() > 0.9
    assert (compare(first, second).of_first == -1).all()


def test_images_of_one_camera_are_compared_by_what_they_do_not_have_in_common() -> None:
    scene = textures(1, seed=3)[0].astype(int)
    views = [np.clip(scene + image.astype(int) // 8 - 16, 0, 255).astype(np.uint8) for image in textures(400, seed=4)]
    first, second = views[:200], views[200:]
    plain, other = features(thumbs_of(first)), features(thumbs_of(second))
    alike = (plain.coarse @ other.coarse.T > MIN_COARSE) & (
        np.einsum("id,jd->ij", *(f.detail / np.linalg.norm(f.detail, axis=1, keepdims=True) for f in (plain, other)))
        > MIN_DETAIL
    )
    assert alike.mean() > 0.9  # without the common scene, nearly all pairs would be duplicates
    partners = compare([*first, recompress(second[7], 95)], second)
    assert (partners.of_first[:-1] == -1).all() and partners.of_first[-1] == 7


def test_the_first_of_several_partners_is_given() -> None:
    second = textures(40, seed=5)
    partners = compare([second[3], second[3], second[9]], [*second, second[3]])
    assert partners.of_first.tolist() == [3, 3, 9]
    assert partners.of_second[[3, 9, 40]].tolist() == [0, 2, 0]


def test_more_candidates_than_are_compared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.data.splits.near_duplicates._MAX_PAIRS", 7)
    monkeypatch.setattr("common.data.splits.near_duplicates._CHUNK", 5)
    monkeypatch.setattr("common.data.splits.near_duplicates.BLOCK_LENGTH", 6)
    images = textures(20, seed=6)
    partners = compare(images, images)
    assert partners.of_first.tolist() == partners.of_second.tolist() == list(range(20))


def test_selection_by_projections_excludes_no_pair() -> None:
    first, second = thumbs_of(textures(60, seed=7)), thumbs_of(textures(50, seed=8))
    common = common_features(second)
    assert common is not None
    index = NearIndex(second, common)
    centered = index._center(features(first)).coarse
    bounds = index._project(centered) @ index._projected.T
    assert (bounds >= centered @ index._features.coarse.T - 1e-5).all()


def test_flat_and_small_images_are_not_compared() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    small = resize(textures(1, seed=0)[0], 15, 40)
    assert common_features(thumbs_of([flat, small])) is None
    images = textures(5, seed=0)
    assert compare([flat, small], [*images, flat, small]).of_first.tolist() == [-1, -1]
