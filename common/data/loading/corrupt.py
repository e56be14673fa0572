"""Owns broken images that are met while training: what stands in for them, how they are counted, and when it is too many."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from common.data.splits.verification import bound_problem
from common.errors import UserError
from common.rng import SampleKey, generator

if TYPE_CHECKING:
    from accelerate import Accelerator

    from common.data.config import DataConfig
    from common.data.splits.roles import Splits

_log = logging.getLogger(__name__)

OnError = Literal["stop", "skip"]
LISTED = 100
"""Broken images that are told one by one; of more, the number alone is told."""
_DRAWS = 64


class BrokenImage(NamedTuple):
    """Say which image of a split cannot be used, and why."""

    number: int
    reason: str
    """The error, which opens with the image's name."""


def read_images(
    read: Callable[[int], Tensor], num_images: int, keys: Sequence[SampleKey], *, replacement_seed: int
) -> tuple[list[Tensor], list[int], list[BrokenImage]]:
    """Return the image of every key, the index each really has, and the broken images that others stand in for.

    The d-th candidate for a broken image is drawn by (replacement_seed, epoch, index, repeat, d) from all images, so
    that neither workers nor a new start change it. Raise UserError where 64 candidates are broken, too.
    """
    images, indices, broken = list[Tensor](), list[int](), list[BrokenImage]()
    for key in keys:
        try:
            image, index = read(key.index), key.index
        except UserError as error:
            broken.append(BrokenImage(key.index, str(error)))
            image, index = _draw_replacement(read, num_images, key, replacement_seed, str(error))
        images.append(image)
        indices.append(index)
    return images, indices, broken


def _draw_replacement(
    read: Callable[[int], Tensor], num_images: int, key: SampleKey, seed: int, reason: str
) -> tuple[Tensor, int]:
    """Return the first candidate that is whole, and its index."""
    for draw in range(_DRAWS):
        own = generator(seed, epoch=key.epoch, index=key.index, repeat=key.repeat, view=draw, stream="replacement")
        index = int(own.integers(num_images))
        try:
            return read(index), index
        except UserError:
            continue
    raise UserError(f"{reason} No image that could stand in for it was found in {_DRAWS} draws: restore the data set.")


class _Batch(Protocol):
    """A batch, as far as it tells of broken images."""

    broken: list[BrokenImage]


AnyBatch = TypeVar("AnyBatch", bound=_Batch)


def build_error_count(config: "DataConfig", splits: "Splits", accelerator: "Accelerator") -> "ErrorCount":
    """Return the count of broken images that the recipe sets, for the training images of `splits`."""
    return ErrorCount(
        on_error=config.on_error,
        max_errors=config.max_errors,
        num_images=len(splits.train),
        left_out=splits.left_out,
        accelerator=accelerator,
    )


class ErrorCount:
    """Count the broken images that training meets, over all processes, and stop it when they are too many.

    With `on_error` "stop", one is too many; with "skip", more different ones than `max_errors`, a share of the
    `num_images` that train. Every process counts the same, so that all of them stop together.
    """

    def __init__(
        self,
        *,
        on_error: OnError,
        max_errors: float,
        num_images: int,
        left_out: dict[str, list[str]],
        accelerator: "Accelerator",
    ) -> None:
        """Take the policy, and the `left_out` images of each part that is only looked at."""
        self._stops, self._max_errors, self._num_images = on_error == "stop", max_errors, num_images
        self._left_out, self._accelerator = left_out, accelerator
        self._replaced = 0
        self._indices: set[int] = set()
        self._listed: list[str] = []

    def watch(self, batches: Iterable[AnyBatch]) -> Iterator[AnyBatch]:
        """Yield the batches, each once its broken images are counted; raise UserError before the batch that is too much."""
        for batch in batches:
            self.add(batch.broken)
            yield batch

    def add(self, broken: list[BrokenImage]) -> None:
        """Count broken images that this process met; all processes call it together. Raise UserError where it is too much."""
        for image in self._of_all_processes(broken):
            self._count(image)

    def facts(self) -> dict[str, Any]:
        """Return what result.json tells under `data_errors`; nothing where the first error stops."""
        if self._stops:
            return {}
        return {
            "data_errors": {
                "replaced_samples": self._replaced,
                "broken_images": len(self._indices),
                "listed": self._listed,
                "left_out": self._left_out,
            }
        }

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {"replaced": self._replaced, "indices": sorted(self._indices), "listed": self._listed}

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        self._replaced, self._indices, self._listed = state["replaced"], set(state["indices"]), state["listed"]

    def _count(self, image: BrokenImage) -> None:
        """Take in one replaced sample."""
        if self._stops:
            raise UserError(f"{image.reason} With data.on_error=skip, others stand in for broken images.")
        self._replaced += 1
        if image.number in self._indices:
            return
        self._indices.add(image.number)
        if len(self._listed) < LISTED:
            self._listed.append(image.reason)
            _log.warning("data: training image %d is replaced wherever it comes: %s", image.number, image.reason)
        problem = bound_problem(len(self._indices), self._num_images, "training", max_errors=self._max_errors)
        if problem:
            raise UserError(f"{problem} The last one: {image.reason}")

    def _of_all_processes(self, mine: list[BrokenImage]) -> list[BrokenImage]:
        """Return the broken images of this step over all processes, in the order of the processes."""
        if self._accelerator.num_processes == 1:
            return mine
        from accelerate.utils import gather_object

        count = self._accelerator.reduce(torch.tensor([len(mine)], device=self._accelerator.device), reduction="sum")
        return [BrokenImage(*image) for image in gather_object(mine)] if count.item() else []
