"""Corrupt images during training: replacement, counting and the limit."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

from common.data.images import ImageArray
from common.data.splits.verification import max_corrupt_problem
from common.errors import ProcessError, SharedError, UserError
from common.rng import SampleKey, generator

if TYPE_CHECKING:
    from common.data.config import DataConfig
    from common.data.splits.roles import Splits

_log = logging.getLogger(__name__)

OnCorrupt = Literal["stop", "skip"]
MAX_LISTED = 100
"""Corrupt images that are logged and listed individually; further ones are only counted."""
_MAX_DRAWS = 64


class CorruptImage(NamedTuple):
    """An image of a split that cannot be used, and the error."""

    image_index: int
    reason: str
    """Error message, starting with the image's name."""


def read_images(
    read: Callable[[int], ImageArray], num_images: int, keys: Sequence[SampleKey], *, replacement_seed: int
) -> tuple[list[ImageArray], list[int], list[CorruptImage]]:
    """Return one image per key, the index of the image that was read, and the corrupt images that were replaced.

    The d-th candidate for a replacement is drawn from all images, keyed by (replacement_seed, epoch, index, repeat, d), so that
    it depends neither on the workers nor on a restart. Raise UserError if 64 candidates are corrupt, too.
    """
    images, indices, corrupt = list[ImageArray](), list[int](), list[CorruptImage]()
    for key in keys:
        try:
            image, index = read(key.index), key.index
        except ProcessError:
            raise
        except UserError as error:
            corrupt.append(CorruptImage(key.index, str(error)))
            image, index = _draw_replacement(read, num_images, key, replacement_seed, str(error))
        images.append(image)
        indices.append(index)
    return images, indices, corrupt


def _draw_replacement(
    read: Callable[[int], ImageArray], num_images: int, key: SampleKey, seed: int, reason: str
) -> tuple[ImageArray, int]:
    """Return the first candidate that can be read, and its index."""
    for draw in range(_MAX_DRAWS):
        rng = generator(seed, epoch=key.epoch, index=key.index, repeat=key.repeat, view=draw, stream="replacement")
        index = int(rng.integers(num_images))
        try:
            return read(index), index
        except ProcessError:
            raise
        except UserError:
            continue
    raise UserError(f"{reason} No readable replacement was found in {_MAX_DRAWS} draws. Restore the dataset.")


class Processes(Protocol):
    """Decisions of all processes of a run that do not make the device wait (`common.training.process_group`)."""

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process."""
        ...

    def gather(self, value: list[CorruptImage]) -> list[list[CorruptImage]]:
        """Return the value of every process."""
        ...


class _Batch(Protocol):
    """Any batch that lists its corrupt images."""

    corrupt: list[CorruptImage]


AnyBatch = TypeVar("AnyBatch", bound=_Batch)


def build_corrupt_counter(config: "DataConfig", splits: "Splits", processes: Processes) -> "CorruptImageCounter":
    """Return the configured counter of corrupt images among the training images of `splits`."""
    return CorruptImageCounter(
        on_corrupt=config.on_corrupt,
        max_corrupt=config.max_corrupt,
        num_images=len(splits.train),
        excluded=splits.excluded,
        processes=processes,
    )


class CorruptImageCounter:
    """Count corrupt training images over all processes, and stop training when there are too many.

    With `on_corrupt` "stop", the first one stops training; with "skip", exceeding `max_corrupt` does, the allowed number of
    distinct corrupt images as a fraction of the `num_images` training images. All processes have the same counts, so they stop in
    the same step.
    """

    def __init__(
        self,
        *,
        on_corrupt: OnCorrupt,
        max_corrupt: float,
        num_images: int,
        excluded: dict[str, list[str]],
        processes: Processes,
    ) -> None:
        """Create the counter; `excluded` lists the corrupt images excluded from each evaluation split."""
        self._stops, self._max_corrupt, self._num_images = on_corrupt == "stop", max_corrupt, num_images
        self._excluded, self._processes = excluded, processes
        self._replaced = 0
        self._indices: set[int] = set()
        self._listed: list[str] = []

    def watch(self, batches: Iterable[AnyBatch]) -> Iterator[AnyBatch]:
        """Count each batch's corrupt images, then yield the batch; raise UserError before the batch that exceeds the limit."""
        for batch in batches:
            self.add(batch.corrupt)
            yield batch

    def add(self, corrupt: list[CorruptImage]) -> None:
        """Count this process's corrupt images; collective over all processes. Raise UserError if the limit is exceeded."""
        for image in self._gather(corrupt):
            self._count(image)

    def summary(self) -> dict[str, Any]:
        """Return the entry `data_errors` of result.json; empty if the first corrupt image stops training."""
        if self._stops:
            return {}
        return {
            "data_errors": {
                "replaced_samples": self._replaced,
                "corrupt_images": len(self._indices),
                "listed": self._listed,
                "excluded": self._excluded,
            }
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state to checkpoint."""
        return {"replaced": self._replaced, "indices": sorted(self._indices), "listed": self._listed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from `state_dict`."""
        self._replaced, self._indices, self._listed = state["replaced"], set(state["indices"]), state["listed"]

    def _count(self, image: CorruptImage) -> None:
        """Count one replaced sample."""
        if self._stops:
            raise SharedError(f"{image.reason} To replace corrupt images by others, set data.on_corrupt=skip.")
        self._replaced += 1
        if image.image_index in self._indices:
            return
        self._indices.add(image.image_index)
        if len(self._listed) < MAX_LISTED:
            self._listed.append(image.reason)
            _log.warning(
                "data: training image %d is replaced whenever it is sampled: %s", image.image_index, image.reason
            )
        problem = max_corrupt_problem(len(self._indices), self._num_images, "training", max_corrupt=self._max_corrupt)
        if problem:
            raise SharedError(f"{problem} Latest: {image.reason}")

    def _gather(self, local: list[CorruptImage]) -> list[CorruptImage]:
        """Return the corrupt images of all processes in this step, in rank order."""
        if not self._processes.any(bool(local))[0]:
            return []
        return [CorruptImage(*image) for images in self._processes.gather(local) for image in images]
