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


def unused_names(source: Source) -> list[str]:
    """Return the names that the configuration leaves out (data.leave_out) and that nothing had in the splits that were read."""
    find = getattr(source, "unused_names", None)  # of folders alone
    return [] if find is None else [*find()]
