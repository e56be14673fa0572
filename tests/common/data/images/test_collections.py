"""Image collections: every one of them obeys the size limit of its decoder."""

import errno
import io
import os
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from common.data.images.collections import FileImages, Images, PixelImages, SelectedImages
from common.data.images.decode import ImageDecoder
from common.data.sources.split import Split
from common.data.sources.tables import Shard, TableImages
from common.data.splits.verification import verify_and_cache
from common.errors import ProcessError, UserError

HEIGHT, WIDTH = 3, 5


def png() -> bytes:
    """Return an encoded image."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


def collection(kind: str, root: Path, decoder: ImageDecoder) -> Images:
    """Return a collection of one image."""
    if kind == "pixels":
        pixels = np.zeros(3 * HEIGHT * WIDTH, np.uint8)
        return PixelImages([pixels], np.array([[HEIGHT, WIDTH]]), block_length=1, decoder=decoder)
    if kind == "table":
        return TableImages(Dataset.from_dict({"image": [png()]}), "image", (Shard("t", 1, "t"),), root, decoder=decoder)
    (root / "image.png").write_bytes(png())
    files = FileImages(root, ["image.png"], decoder=decoder)
    if kind == "cache":
        split = Split(images=files, labels=None, class_names=())
        verified = verify_and_cache({"train": split}, verify="none", cache_bytes=10**6, threads=1, max_corrupt=0.99)
        assert isinstance(verified.splits["train"].images, PixelImages)
        return verified.splits["train"].images
    return SelectedImages(files, np.array([0])) if kind == "selection" else files


@pytest.mark.parametrize("kind", ["files", "table", "pixels", "cache", "selection"])
def test_every_collection_obeys_the_size_limit(kind: str, tmp_path: Path) -> None:
    images = collection(kind, tmp_path, ImageDecoder(max_pixels=HEIGHT * WIDTH))
    assert images.decode(0).shape == (HEIGHT, WIDTH, 3) and images.decoder.max_pixels == HEIGHT * WIDTH


@pytest.mark.parametrize("kind", ["files", "table", "pixels", "selection"])
def test_every_collection_rejects_larger_images_by_name(kind: str, tmp_path: Path) -> None:
    images = collection(kind, tmp_path, ImageDecoder(max_pixels=HEIGHT * WIDTH - 1))
    with pytest.raises(UserError) as caught:
        images.decode(0)
    assert str(caught.value).startswith(f"{images.name(0)}: the image is too large: 5 x 3 = 15 pixels")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("files", "image.png"),
        ("cache", "image.png"),
        ("selection", "image.png"),
        ("table", "t row 0"),
        ("pixels", "image 0"),
    ],
)
def test_an_id_does_not_depend_on_where_the_images_are(kind: str, expected: str, tmp_path: Path) -> None:
    assert collection(kind, tmp_path, ImageDecoder()).image_ids() == [expected]


def test_equal_names_and_names_that_are_not_text_have_unique_ids(tmp_path: Path) -> None:
    paths = ["a", "a", "b", "a (2)", "a", "a (2)", os.fsdecode(b"\xff.png")]
    split = Split(images=FileImages(tmp_path, paths, decoder=ImageDecoder()), labels=None, class_names=())
    assert split.image_ids() == ["a", "a (3)", "b", "a (2)", "a (4)", "a (2) (2)", r"\xff.png"]


def _failing(monkeypatch: pytest.MonkeyPatch, number: int, *, times: int) -> None:
    """Let the next `times` reads of files fail."""
    read, left = Path.read_bytes, [number] * times

    def fail(path: Path) -> bytes:
        if left:
            raise OSError(left.pop(), os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
@pytest.mark.parametrize("kind", ["files", "paths"])
@pytest.mark.parametrize("use", ["decode", "content"])
def test_a_failure_of_the_storage_is_not_one_of_the_image(
    number: int, kind: str, use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that is replaced, or has no content, is one that is damaged: what was read then would be lost for the whole run."""
    images: Images = collection("files", tmp_path, ImageDecoder())
    if kind == "paths":
        rows = Dataset.from_dict({"image": [{"bytes": None, "path": "image.png"}]})
        images = TableImages(rows, "image", (Shard("t", 1, "t"),), tmp_path, decoder=ImageDecoder())
    _failing(monkeypatch, number, times=9)
    with pytest.raises(ProcessError, match=r"image\.png: cannot be read \(.*\), which is no fault of the image"):
        getattr(images, use)(0)


def test_a_file_that_was_replaced_on_its_server_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = collection("files", tmp_path, ImageDecoder())
    _failing(monkeypatch, errno.ESTALE, times=1)
    assert images.decode(0).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EIO])
def test_a_file_that_is_lost_is_one_of_the_image(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = collection("files", tmp_path, ImageDecoder())
    _failing(monkeypatch, number, times=9)
    with pytest.raises(UserError, match="Restore or remove it") as caught:
        images.decode(0)
    assert not isinstance(caught.value, ProcessError)
