"""The x axis of a comparison's figures: logarithmic where all levels are above 0, as fractions are, otherwise linear."""

from collections.abc import Sequence

from common.figures import Axes

_PART = 0.4
"""Part of a linear axis that is dodged by as much as a logarithmic one of a factor of ten, relative to the value dodged by."""
_MARGIN = 0.06
"""Room beside the outer levels of a linear axis, as a part of it."""


class XAxis:
    """Positions on the x axis."""

    def __init__(self, levels: Sequence[float]) -> None:
        """Take the levels, in ascending order."""
        self.levels = list(levels)
        self.is_logarithmic = self.levels[0] > 0
        self._width = self.levels[-1] - self.levels[0] or 1.0

    def dodged(self, x: float, part: float) -> float:
        """Return a position beside x: away by a part of x on a logarithmic axis, of the axis on a linear one."""
        return x * (1 + part) if self.is_logarithmic else x + part * _PART * self._width

    def apply(self, axes: Axes, labels: Sequence[str]) -> None:
        """Set the scale, the limits around the levels and the labels of the levels."""
        first, last = self.levels[0], self.levels[-1]
        if self.is_logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(first * 0.86, last * 1.16)
        else:
            axes.set_xlim(first - _MARGIN * self._width, last + _MARGIN * self._width)
        axes.set_xticks(self.levels, labels)
        axes.minorticks_off()
