"""Subsets: nested, stratified, pure functions of their arguments; manifests and published lists."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.sources.split import Split
from common.data.splits.subset import Subset, draw_subset, draw_validation_subset, import_subset, read_subset
from common.errors import UserError

labels_of_classes = st.lists(st.integers(1, 30), min_size=1, max_size=6).map(
    lambda sizes: np.random.default_rng(len(sizes)).permutation(np.repeat(np.arange(len(sizes)), sizes))
)
fractions = st.floats(0.01, 1, exclude_min=True)


def drawn(labels: np.ndarray, fraction: float, seed: int) -> set[int]:
    """Return the selected indices; none if the fraction is rejected."""
    try:
        return set(draw_subset(labels, fraction=fraction, seed=seed).indices.tolist())
    except UserError:
        return set()


def file_split(paths: list[str], labels: list[int] | None = None) -> Split:
    """Return a split of nonexistent files."""
    names = ("a", "b") if labels is not None else ()
    images = FileImages(Path("nowhere"), paths, decoder=ImageDecoder())
    return Split(images=images, labels=None if labels is None else np.array(labels), class_names=names)


@given(labels_of_classes, fractions, fractions, st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_subsets_of_two_fractions_are_nested(labels: np.ndarray, one: float, other: float, seed: int) -> None:
    assert drawn(labels, min(one, other), seed) <= drawn(labels, max(one, other), seed)


@given(labels_of_classes, st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_subsets_of_images_per_class_are_nested(labels: np.ndarray, one: int, other: int) -> None:
    smallest = int(np.bincount(labels).min())
    small, large = sorted((min(one, smallest), min(other, smallest)))
    subsets = [draw_subset(labels, images_per_class=count, seed=3) for count in (small, large)]
    assert set(subsets[0].indices) <= set(subsets[1].indices)
    assert np.bincount(labels[subsets[0].indices]).tolist() == [small] * len(np.unique(labels))


@given(labels_of_classes, fractions)
@settings(max_examples=100, deadline=None)
def test_every_class_contributes_its_rounded_fraction(labels: np.ndarray, fraction: float) -> None:
    selected = sorted(drawn(labels, fraction, 0))
    if selected:
        expected = np.bincount(labels) * fraction
        counts = np.bincount(labels[selected], minlength=len(expected))
        assert (np.abs(counts - expected) <= 0.5 + 1e-6).all() and (counts >= 1).all()


@given(labels_of_classes, fractions)
@settings(max_examples=100, deadline=None)
def test_reported_smallest_fraction_is_the_smallest_valid_one(labels: np.ndarray, fraction: float) -> None:
    try:
        draw_subset(labels, fraction=fraction, seed=0)
    except UserError as error:
        smallest = float(str(error).rstrip(".").rsplit(" ", 1)[1])
        assert smallest > fraction
        assert draw_subset(labels, fraction=smallest, seed=0).num_images == len(labels)
        with pytest.raises(UserError):
            draw_subset(labels, fraction=smallest * 0.999, seed=0)


@given(labels_of_classes, fractions, fractions, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_validation_subsets_are_those_of_training_and_no_class_is_empty(
    labels: np.ndarray, one: float, other: float, seed: int
) -> None:
    small, large = (
        set(draw_validation_subset(labels, fraction=fraction, seed=seed).tolist()) for fraction in sorted((one, other))
    )
    assert small <= large and set(labels[list(small)]) == set(labels)
    rounded = np.floor(np.bincount(labels) * min(one, other) + 0.5 + 1e-9)
    assert np.bincount(labels[list(small)]).tolist() == np.maximum(rounded, 1).tolist()
    expected = drawn(labels, min(one, other), seed)
    assert small == expected or not expected


def test_a_class_without_validation_images_has_none_in_the_subset() -> None:
    assert draw_validation_subset([0, 0, 2], fraction=0.1, seed=0).tolist() in ([0, 2], [1, 2])


def test_file_names_follow_the_selection() -> None:
    paths = ["a/1.png", "b/2.jpg", "b/ä.png"]
    split = file_split(paths)
    assert split.file_names() == paths
    assert split.select([2, 0]).file_names() == ["b/ä.png", "a/1.png"]
    assert split.select([1, 2]).select([1]).file_names() == ["b/ä.png"]


def test_fraction_one_and_no_fraction_select_all_images() -> None:
    labels = np.array([2, 0, 1, 1, 2, 0, 0])
    for subset in (draw_subset(labels, fraction=1.0, seed=5), draw_subset(labels, seed=6)):
        assert subset.indices.tolist() == list(range(7))


def test_subset_depends_on_the_seed_not_on_global_random_state() -> None:
    labels = np.arange(400) % 4
    np.random.seed(0)
    first = draw_subset(labels, fraction=0.1, seed=0)
    np.random.seed(1)
    assert draw_subset(labels, fraction=0.1, seed=0).hash == first.hash
    assert draw_subset(labels, fraction=0.1, seed=1).hash != first.hash


def test_known_subset_does_not_change() -> None:
    """A change of this value makes the subsets of older runs irreproducible."""
    assert draw_subset(np.arange(60) % 3, fraction=0.1, seed=0).indices.tolist() == [0, 2, 11, 25, 27, 31]


def test_subset_of_a_class_does_not_depend_on_other_classes() -> None:
    small, large = np.repeat([0, 1], [20, 10]), np.repeat([0, 1], [20, 30])
    indices = [draw_subset(labels, images_per_class=5, seed=0).indices for labels in (small, large)]
    assert indices[0][:5].tolist() == indices[1][:5].tolist()


def test_error_names_the_empty_classes() -> None:
    labels = np.repeat([0, 1, 2], [100, 4, 2])
    with pytest.raises(UserError) as caught:
        draw_subset(labels, fraction=0.05, seed=0, class_names=("cat", "dog", "owl"))
    assert str(caught.value) == (
        "data.fraction is 0.05, which leaves 'dog', 'owl' without images. The smallest fraction that keeps every"
        " class is 0.25."
    )


def test_more_images_than_a_class_has_are_rejected() -> None:
    with pytest.raises(UserError, match=r"images_per_class is 3, but 'b' have fewer.* every class has is 2\."):
        draw_subset(np.repeat([0, 1], [5, 2]), images_per_class=3, seed=0, class_names=("a", "b"))


@pytest.mark.parametrize("arguments", [{"fraction": 0.0}, {"fraction": 1.1}, {"images_per_class": 0}])
def test_sizes_out_of_range_are_rejected(arguments: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"data.{next(iter(arguments))} is"):
        draw_subset(np.zeros(5, int), seed=0, **arguments)


def test_fraction_and_images_per_class_are_mutually_exclusive() -> None:
    with pytest.raises(UserError, match="mutually exclusive"):
        draw_subset(np.zeros(5, int), fraction=0.5, images_per_class=1, seed=0)


def test_manifest_round_trip(tmp_path: Path) -> None:
    subset = draw_subset(np.arange(40) % 4, fraction=0.25, seed=7, class_names=("a", "b", "c", "d"))
    subset.save(tmp_path / "subset.json")
    loaded = Subset.load(tmp_path / "subset.json")
    assert loaded.indices.tolist() == subset.indices.tolist() and loaded.hash == subset.hash
    assert (loaded.class_counts, loaded.fraction, loaded.seed) == ({"a": 3, "b": 3, "c": 3, "d": 3}, 0.25, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["subset.json"]


def test_edited_manifest_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "subset.json"
    draw_subset(np.arange(40) % 4, fraction=0.25, seed=7).save(path)
    manifest = json.loads(path.read_text())
    manifest["indices"][0] += 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="do not match the hash"):
        Subset.load(path)


@pytest.mark.parametrize("text", ["", "[]", '{"indices": [1]}', "not json", '{"hash": 1, "indices": "x"}'])
def test_file_that_is_not_a_manifest_is_rejected(tmp_path: Path, text: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(UserError, match=r"other\.json: not a subset manifest"):
        Subset.load(tmp_path / "other.json")


def test_missing_manifest_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        Subset.load(tmp_path / "none.json")


def test_manifest_of_another_training_set_is_rejected(tmp_path: Path) -> None:
    split = file_split(["a/1.png", "b/2.png"], [0, 1])
    draw_subset(np.array([0, 1]), seed=0).save(tmp_path / "subset.json")
    with pytest.raises(UserError, match="belongs to another training set"):
        read_subset(str(tmp_path / "subset.json"), split)


FILES = ["a/x/1.jpg", "a/2.jpg", "b/3.v2.png", "b/1.jpg"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["2.jpg"], [1]),
        (["3.v2.png", "2.jpg"], [1, 2]),
        (["2", "3.v2"], [1, 2]),
        (["a/x/1.jpg", "b/1.jpg"], [0, 3]),
        (["x/1", "./b/1.jpg"], [0, 3]),
        (["# a comment", "", "  a\\2.jpg  "], [1]),
    ],
)
def test_published_list_matches_its_images(tmp_path: Path, lines: list[str], expected: list[int]) -> None:
    (tmp_path / "list.txt").write_text("\n".join(lines))
    subset = import_subset(tmp_path / "list.txt", file_split(FILES, [0, 0, 1, 1]))
    assert subset.indices.tolist() == expected
    assert sum(subset.class_counts.values()) == len(subset) == len(expected)
    assert subset.num_images == 4


def test_a_byte_order_mark_and_names_with_a_hash_belong_to_the_list(tmp_path: Path) -> None:
    files = ["a/#1.jpg", "a/2.jpg", "b/cafe\u0301.jpg"]
    (tmp_path / "list.txt").write_text(
        "#1.jpg\n# a comment\n#no.jpg\ncaf\u00e9.jpg\r\n", encoding="utf-8-sig", newline=""
    )
    assert import_subset(tmp_path / "list.txt", file_split(files)).indices.tolist() == [0, 2]


def test_all_invalid_names_are_reported_together(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("no.jpg\n2.jpg\n1.jpg\nc/2.jpg\na/2.jpg\n3.v2.jpg\n")
    with pytest.raises(UserError) as caught:
        import_subset(tmp_path / "list.txt", file_split(FILES))
    message = str(caught.value)
    assert message.startswith(f"data.subset_file {tmp_path / 'list.txt'}: of 6 names, 3 match no image: 'no.jpg', 'c/2")
    assert "1 match several images: '1.jpg'" in message and "1 are duplicates: 'a/2.jpg'" in message


def test_long_lists_of_unknown_names_are_truncated(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(f"{number}.gif" for number in range(10, 40)))
    with pytest.raises(UserError, match=r"30 match no image: .* and 20 more"):
        import_subset(tmp_path / "list.txt", file_split(FILES))


@pytest.mark.parametrize("content", [b"", b"# only a comment\n", b"\xff\xfe\x00binary"])
def test_list_without_names_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"list\.txt: the list (contains no names|cannot be read)"):
        read_subset(str(tmp_path / "list.txt"), file_split(FILES))


def test_a_list_in_the_home_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bash expands no ~ after `data.subset_file=`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "list.txt").write_text("1.png\n")
    assert read_subset("~/list.txt", file_split(["a/1.png", "b/2.png"], [0, 1])).indices.tolist() == [0]
