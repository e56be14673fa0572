"""Images as a data loader reads them: those of a server's shards are copied to the node on the way."""

from typing import Protocol, runtime_checkable

from common.data.images.collections import Images, SelectedImages
from common.data.images.joined import JoinedImages


@runtime_checkable
class RemoteImages(Protocol):
    """Images of which some may be on a server."""

    def copied_as_read(self) -> Images:
        """Return the same images, of which those on the server are copied to the node as they are read."""


def copied_as_read(images: Images) -> Images:
    """Return the same images, of which those of a server's shards are copied to the node as they are read."""
    if isinstance(images, SelectedImages):
        return SelectedImages(copied_as_read(images.images), images.indices)
    if isinstance(images, JoinedImages):
        return JoinedImages([copied_as_read(part) for part in images.parts])
    return images.copied_as_read() if isinstance(images, RemoteImages) else images


def num_stored(images: Images) -> int:
    """Return the number of images of the collections that `images` are selected from."""
    if isinstance(images, SelectedImages):
        return num_stored(images.images)
    if isinstance(images, JoinedImages):
        return sum(map(num_stored, images.parts))
    return len(images)
