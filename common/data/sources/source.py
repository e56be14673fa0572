"""What a source of images is: its splits by name, and the usual names of splits."""

from typing import Protocol

from common.data.sources.split import Split

VALIDATION_NAMES = ("validation", "valid", "val", "dev")
TEST_NAMES = ("test", "testing")
TRAIN_NAMES = ("train", "training")


class Source(Protocol):
    """Where a data set lies: its splits by name."""

    title: str

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""

    def read(self, name: str, *, labelled: bool) -> Split:
        """Return one split; `labelled` demands labels, otherwise they come when they can be found."""
