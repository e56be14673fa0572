"""Sections of a comparison after its first screen: what they show beside the figures, computed when it is asked for."""

from functools import cached_property

import pandas as pd

from recipes.reports.arm_costs import CellCosts
from recipes.reports.captions import fill
from recipes.reports.comparison.arm_predictions import ArmPair, declared_pairs
from recipes.reports.comparison.class_words import ClassTables, class_note, class_tables
from recipes.reports.comparison.compute import over_macs
from recipes.reports.comparison.crops import StageCrops, sample_crops
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.mistakes import Gallery, find_gallery
from recipes.reports.comparison.price import point_costs, total_hours, weighings
from recipes.reports.comparison.price_words import PriceWords
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.comparison.section_captions import EXPLORATORY
from recipes.reports.comparison.stage_curves import read_stage_curves
from recipes.reports.comparison.tables import ComparisonTables
from recipes.reports.results import StudyRecord
from recipes.reports.run_tables import Table

NAMES = ("compute", "price", "curves", "classes", "mistakes", "crops")
"""The sections in the order of the page: names of their templates under templates/sections/."""


class Sections:
    """The content of the sections; a template shows nothing where there is no data."""

    names = NAMES

    def __init__(
        self, study: StudyRecord, findings: Findings, words: ComparisonWords, tables: ComparisonTables
    ) -> None:
        """Take the record of a study's folder, its findings, their wording, and the tables, which name axes and levels."""
        self.study, self.findings, self.words, self.tables = study, findings, words, tables

    def note(self) -> str:
        """Return what all sections have in common."""
        return fill(EXPLORATORY)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Return the training curves of the last stage (`read_stage_curves`)."""
        return read_stage_curves(self.study, self.findings)

    @cached_property
    def curves_over_macs(self) -> pd.DataFrame:
        """Return these curves with the MACs spent up to each value (`over_macs`)."""
        return over_macs(self.study, self.curves)

    @property
    def costs(self) -> CellCosts:
        """Return the cost of a run of every cell."""
        return self.findings.costs

    @cached_property
    def price_table(self) -> Table:
        """Return what every point of the curve costs; no rows while no run is done."""
        costs = point_costs(self.findings, self.costs) if len(self.costs) else []
        return PriceWords(self.findings, self.words, self.tables).table(costs)

    def price_sentences(self) -> list[str]:
        """Return what the costs are, and what the labels saved are worth."""
        words = PriceWords(self.findings, self.words, self.tables)
        found = weighings(self.findings, self.words, self.costs)
        return list(words.sentences(found, total_hours(self.study)))

    @cached_property
    def pairs(self) -> list[ArmPair]:
        """Return the predictions of both arms of the first claim, at the smallest and the largest x, and of those on starts."""
        return declared_pairs(self.study, self.findings)

    @cached_property
    def classes(self) -> list[ClassTables]:
        """Return the tables by class."""
        return class_tables(self.pairs, self.findings, self.words)

    def class_note(self) -> str:
        """Return how to read the tables by class."""
        return class_note(self.pairs)

    @cached_property
    def gallery(self) -> Gallery | None:
        """Return the worst mistakes of the two arms at the largest x, with pictures where the data can be opened."""
        main = self.findings.main
        pairs = [pair for pair in self.pairs if pair.claim == "effect"]
        return find_gallery(pairs[-1], (main.base, main.other), self.study.folder) if pairs else None

    @cached_property
    def crops(self) -> list[StageCrops]:
        """Return the sample crops of both stages."""
        return sample_crops(self.study, self.findings)
