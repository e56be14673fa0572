"""Protocol of data sources."""

from typing import Protocol

from common.data.sources.split import Split


class Source(Protocol):
    """A dataset with named splits. `title` names it in logs and errors."""

    title: str

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""

    def read(self, name: str, *, labeled: bool) -> Split:
        """Return split `name`. `labeled` requires labels; otherwise they are read if the source has them.

        Images without a label beside labeled ones have the label UNLABELED, where the source keeps them (data.unlabeled).
        """
