"""Samples of tar shards, in the layout of webdataset: consecutive members that share a name up to its extensions.

`n01440764_10026.jpg` and `n01440764_10026.cls` are one sample, an image with the text of its label, which `.json` may hold, too.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

from common.data.sources.columns import is_usual_label
from common.data.sources.listing import IMAGE_EXTENSIONS
from common.data.sources.shards.places import ShardPlace
from common.data.sources.shards.tar_members import Member, TarFile
from common.errors import UserError, quoted

_LABEL_EXTENSIONS = ("cls", "label", "class")
"""Extensions of members whose text is a label, the first one that a sample has."""
_MAX_TEXT_BYTES = 1 << 20
"""Largest member that is read for a label."""


class Sample(NamedTuple):
    """An image in a tar shard, and the text of its label; None without one."""

    image: Member
    label: str | None


def read_samples(shard: ShardPlace, *, label_column: str | None) -> Iterator[Sample]:
    """Yield the samples of a tar shard that have an image.

    The label is the content of the member `.cls`, or the value of a usual name (`label`, `class`, ...) in `.json`; `label_column`
    names another extension or another key of `.json`. Raise UserError for a damaged shard, and for samples with several images.
    """
    with shard.open() as opened:
        yield from _samples(TarFile(shard.title, opened), label_column)


def _samples(file: TarFile, label_column: str | None) -> Iterator[Sample]:
    """Yield the samples of an open tar file."""
    extensions = _LABEL_EXTENSIONS if label_column is None else (label_column.lower(),)
    current, images, texts = "", list[Member](), dict[str, str]()
    images_alone, labels_alone = set[str](), set[str]()
    for member in file.members():
        stem, extension = _stem_and_extension(member.name)
        if not extension:
            continue  # a hidden file, or one without an extension
        if stem != current:
            label = _find_label(file.title, current, texts, label_column)
            _check_order(file.title, current, images, label, images_alone, labels_alone)
            yield from _sample(file.title, current, images, label)
            current, images, texts = stem, [], {}
        if f".{extension.rpartition('.')[2]}" in IMAGE_EXTENSIONS:
            images.append(member)
        elif extension in (*extensions, "json"):
            texts[extension] = _text(file, member)
    label = _find_label(file.title, current, texts, label_column)
    _check_order(file.title, current, images, label, images_alone, labels_alone)
    yield from _sample(file.title, current, images, label)


def _check_order(
    title: str, stem: str, images: list[Member], label: str | None, images_alone: set[str], labels_alone: set[str]
) -> None:
    """Add a name that has only images, or only a label, to those; raise UserError if it was among the others before."""
    if bool(images) == (label is not None):
        return
    seen, others = (images_alone, labels_alone) if images else (labels_alone, images_alone)
    seen.add(stem)
    if stem in others:
        raise UserError(
            f"data.source: in {title} the label of the sample {stem} is not beside its image: the members of a sample are"
            " consecutive. Write the shard again, with `tar --sort=name`."
        )


def _stem_and_extension(name: str) -> tuple[str, str]:
    """Return a path up to the first dot of its last part, and the rest in lower case, as webdataset divides them."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return (folder + slash + stem, extension.lower()) if stem else (name, "")


def _sample(title: str, stem: str, images: list[Member], label: str | None) -> Iterator[Sample]:
    """Yield the sample of members that share a name, unless they have no image."""
    if len(images) > 1:
        raise UserError(
            f"data.source: the sample {stem} of {title} has several images: {quoted([image.name for image in images])}. The name"
            " of a sample ends at the first dot of its file's name. Write shards with one image for each name."
        )
    if images:
        yield Sample(images[0], label)


def _find_label(title: str, stem: str, texts: dict[str, str], label_column: str | None) -> str | None:
    """Return the label in a sample's texts, by extension; None if there is none, or a blank one."""
    if plain := next((text for extension, text in texts.items() if extension != "json"), None):
        return plain.strip() or None
    if "json" not in texts:
        return None
    try:
        found = json.loads(texts["json"])
    except ValueError as error:
        raise UserError(f"data.source: {stem}.json in {title} is not JSON ({error}). Write the shard again.") from error
    if not isinstance(found, dict):
        raise UserError(
            f"data.source: {stem}.json in {title} is {str(found)[:40]}, not an object with keys. Write labels to .cls, or as"
            ' {"label": 3} to .json.'
        )
    keys = [key for key in found if is_usual_label(key)] if label_column is None else [label_column]
    key = next((key for key in keys if found.get(key) is not None), None)
    if key is None:
        return None
    if not isinstance(found[key], str | int):
        raise UserError(
            f"data.label_column: '{key}' of {stem}.json in {title} is {str(found[key])[:40]}, not a class. Set data.label_column to"
            " the key, or to the extension, that has a number or a name."
        )
    return str(int(found[key]) if isinstance(found[key], bool) else found[key]).strip() or None


def _text(file: TarFile, member: Member) -> str:
    """Return the content of a small member."""
    if member.size > _MAX_TEXT_BYTES:
        raise UserError(
            f"data.label_column: {member.name} in {file.title} has {member.size} bytes, too many for a label. Set data.label_column"
            " to another extension or key."
        )
    return file.read(member.offset, member.size).decode("utf-8", "replace")
