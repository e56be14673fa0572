"""Heat maps of the confusion of two arms."""

import math
from collections.abc import Iterator

import numpy as np

from common.figures import Axes, Figure
from recipes.reports.comparison.arm_predictions import ArmPair, ArmPredictions
from recipes.reports.comparison.class_accuracy import MOST_CLASSES, confusion_matrix
from recipes.reports.figure_style import INK, MUTED, WIDTH, figure
from recipes.reports.figure_text import describe
from recipes.reports.series import SERIES

ANNOTATED = 12
"""Number of classes up to which the cells have their numbers."""
SMALLEST = 0.5
"""Percentage from which a cell is drawn."""


def draw_confusion(pair: ArmPair, titles: tuple[str, str]) -> Figure | None:
    """Draw the mean confusion of both arms: errors by their part of a class's images, correct predictions in gray.

    None for more classes than can be read, or without any error.
    """
    names = pair.base.class_names
    if len(names) > MOST_CLASSES:
        return None
    matrices = [confusion_matrix(arm) for arm in (pair.base, pair.other)]
    largest = max(float((matrix - np.diag(np.diag(matrix))).max()) for matrix in matrices)
    if largest < SMALLEST:
        return None
    with figure(WIDTH, 5.2, 2) as (fig, panels):
        for axes, arm, title in zip(panels, (pair.base, pair.other), titles, strict=True):
            _draw_matrix(axes, arm, largest)
            describe(fig, *_described(arm, title))
            axes.set_title(title)
        fig.supxlabel("predicted class", color=MUTED, fontsize=9.5)
        fig.supylabel("true class", color=MUTED, fontsize=9.5)
    return fig


def _described(arm: ArmPredictions, title: str) -> Iterator[str]:
    """Yield the accuracy of each class and the class that it is confused with most."""
    names, matrix = arm.class_names, confusion_matrix(arm)
    for row, values in enumerate(matrix):
        errors = np.where(np.arange(len(names)) == row, -1.0, values)
        worst = int(errors.argmax())
        most = f", {errors[worst]:.0f}% taken for {names[worst]}" if errors[worst] >= SMALLEST else ""
        yield f"{title}, {names[row]}: {values[row]:.0f}% right{most}"


def _draw_matrix(axes: Axes, arm: ArmPredictions, largest: float) -> None:
    """Draw a matrix cell by cell; `largest` is the error that has the full color."""
    names, matrix = arm.class_names, confusion_matrix(arm)
    for row, values in enumerate(matrix.tolist()):
        for column, value in enumerate(values):
            if value < SMALLEST:
                continue
            is_error = row != column
            shade = 0.12 + 0.5 * math.sqrt(value / largest) if is_error else 0.35 * value / 100
            color = SERIES[1] if is_error else MUTED
            axes.barh(row, 1.0, left=column - 0.5, height=1.0, color=color, alpha=shade, linewidth=0)
            if len(names) <= ANNOTATED:
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=INK, fontsize=8)
    size = 8.5 if len(names) <= ANNOTATED else 6.5
    labels = [name if len(name) <= 14 else f"{name[:13]}…" for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=90 if max(map(len, labels)) > 2 else 0, fontsize=size)
    axes.set_yticks(range(len(names)), labels, fontsize=size)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False)
