"""Tables and sentences on the accuracy by class and on confused classes."""

from dataclasses import dataclass

from recipes.reports.comparison.arm_predictions import ArmPair
from recipes.reports.comparison.class_accuracy import (
    EXTREMES,
    MOST_CLASSES,
    class_rows,
    confused_pairs,
)
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.words import Words
from recipes.reports.formatting import mean_and_bounds, number, signed, within_95
from recipes.reports.run_tables import NOTHING, Table


@dataclass(frozen=True)
class ClassTables:
    """The tables of one pair of arms; `pairs` is None where the confusion is a figure."""

    title: str
    figure: str
    classes: Table
    pairs: Table | None


def class_tables(pairs: list[ArmPair], findings: Findings, words: Words) -> list[ClassTables]:
    """Return the tables of every pair of arms."""
    return [_tables(pair, findings, words) for pair in pairs]


def figure_name(pair: ArmPair) -> str:
    """Return the name of the figure of a pair's confusion."""
    return f"confusion_{pair.x.replace('.', '_')}" + ("" if pair.claim == "effect" else f"_{pair.claim}")


def pair_names(pair: ArmPair, findings: Findings) -> tuple[str, str]:
    """Return the names of both arms in the header of a table: their levels of the main axis, with those of different panels."""
    main, x = findings.main.axis, findings.spec.x
    panels = [[level for axis, level in arm.levels.items() if axis not in (main, x)] for arm in (pair.base, pair.other)]
    base, other = (
        " with ".join([arm.levels[main], *(panel if panels[0] != panels[1] else [])])
        for arm, panel in zip((pair.base, pair.other), panels, strict=True)
    )
    return base, other


def pair_titles(pair: ArmPair, words: Words) -> tuple[str, str]:
    """Return the titles of both arms, with those of different panels."""
    main, x = words.findings.main.axis, words.spec.x
    panels = [{axis: level for axis, level in arm.levels.items() if axis != x} for arm in (pair.base, pair.other)]
    same = all(panels[0][axis] == level for axis, level in panels[1].items() if axis != main)
    base, other = (words.title(panel[main]) if same else words.panel(panel) for panel in panels)
    return base, other


def class_note(pairs: list[ArmPair]) -> str:
    """Return which classes are shown, and what their intervals are."""
    present = len(set(pairs[0].base.target.tolist()))
    shown = (
        f"The {EXTREMES} classes of {present} that gain most and the {EXTREMES} that lose most are shown."
        if present > MOST_CLASSES
        else "The classes in which the arms differ most come first."
    )
    return (
        f"Means over the seeds, with 95% confidence intervals over seeds and the test images of the class (crossed random effects;"
        f" of an accuracy, within its range as by Wilson), each for itself: of many classes some differ by chance. {shown} A class"
        " with fewer than 10 test images, or an arm with one seed, has no interval."
    )


def _tables(pair: ArmPair, findings: Findings, words: Words) -> ClassTables:
    """Return the tables of one pair of arms."""
    main, (base, other) = findings.main, pair_names(pair, findings)
    panel = {axis: level for axis, level in pair.base.levels.items() if axis not in (main.axis, findings.spec.x)}
    title = ", ".join(filter(None, (words.panel(panel), words.labels(pair.x))))
    if pair.claim != "effect":
        title = f"{' against '.join(reversed(pair_titles(pair, words)))}, {words.labels(pair.x)}"
    rows = [
        [
            row.name,
            f"{row.images:,}",
            mean_and_bounds(row.base),
            mean_and_bounds(row.other),
            signed(row.difference.mean),
            within_95(row.difference).removeprefix("95% CI ") if row.difference.is_known else NOTHING,
        ]
        for row in class_rows(pair)
    ]
    classes = Table(["Class", "Test images", base, other, f"{other} − {base}", "95% CI"], rows, 1)
    many = len(pair.base.class_names) > MOST_CLASSES
    confused = [[each.true, each.predicted, number(each.base), number(each.other)] for each in confused_pairs(pair)]
    header = ["Class", "Taken for", f"{base}, % of the class", f"{other}, % of the class"]
    return ClassTables(title, figure_name(pair), classes, Table(header, confused, 2) if many and confused else None)
