"""Sections of a study file (`study_file` has an example), and those sections of an invalid file that are valid."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, create_model
from pydantic_core import PydanticCustomError

from common.config import read
from common.config_messages import TYPE, Otherwise
from common.config_types import Positive, Seed
from common.yaml_words import values_of
from recipes.stages import PROBE
from recipes.study.axis_forms import AxisEntry
from recipes.study.published_weights import PublishedEntry
from recipes.study.ray_section import RayEntry
from recipes.study.report_forms import ReportEntry
from recipes.study.scale_rules import name_value
from recipes.study.sections import NAMED, Factors, FileSection, Settings
from recipes.study.slurm_section import SlurmEntry
from recipes.study.stated_choice import StatedChoice
from recipes.study.tune_forms import TuneEntry


class StageEntry(FileSection):
    """A stage of a study."""

    recipe: str
    """Recipe, relative to the folder of the study, to the repository's root or to its folder recipes."""
    module: str | None = None
    """What follows `accelerate launch -m`; default: the name of the stage."""
    set: Settings = {}
    """Values of recipe keys."""
    factors: Factors = {}
    """Factors by recipe key: each multiplies the value that the study or its scale sets for the key."""
    starts_from: str | None = None
    """Earlier stage whose run this one starts from; a level may name another one, or none."""
    published: PublishedEntry | None = None
    """Published weights that replace the stage at the scale of its recipe."""


class BaselinesEntry(FileSection):
    """Baselines that train no network, run for every cell with its data, seed and network."""

    recipe: str
    """Recipe, relative to the folder of the study, to the repository's root or to its folder recipes."""
    module: str = PROBE
    """What follows `accelerate launch -m`."""
    set: Settings = {}
    """Values of recipe keys; data, seed and network are those of the cell."""


class SizeEntry(FileSection):
    """Size of a study whose networks, lengths and rates follow from its images (`recipes.sizing`)."""

    budget: str = "2h"
    """Time that the study may take on this machine, such as 30m, 2h or 1d; --budget sets it."""
    public: str | None = None
    """Public weights of the arms that start from them, in the forms of `init`; none: there are no such arms. --public sets them."""


def _check_scalar(value: Any) -> Any:
    """Return a value; raise for a list or a mapping."""
    if isinstance(values_of(value), list | dict):
        raise PydanticCustomError(TYPE, "must be text or a number.")
    return value


class SizingEntry(FileSection):
    """A choice that was made for the study's size."""

    key: Annotated[str, Field(min_length=1), Otherwise("must name what was chosen, such as model.patch_size.")]
    """What was chosen: a recipe key, or a few words."""
    value: Annotated[Any, AfterValidator(_check_scalar), WithJsonSchema({"not": {"type": ["object", "array"]}})]
    """Value that was chosen: text or a number."""
    reason: Annotated[str, Field(min_length=1), Otherwise("must say why.")]
    """Why, in a sentence."""

    def stated(self) -> StatedChoice:
        """Return the choice, its texts on one line."""
        return StatedChoice(self.key, " ".join(name_value(self.value).split()), " ".join(self.reason.split()))


class StudyFile(FileSection):
    """A study file."""

    name: Annotated[str, Field(min_length=1), Otherwise("must not be empty.")]
    """Name of the study and of its folder."""
    question: str
    """Question that the study answers."""
    stages: Annotated[dict[str, StageEntry], *NAMED]
    """Stages in their order; the report is on the last one, the others run where it starts from them."""
    axes: Annotated[dict[str, AxisEntry], *NAMED]
    """What is varied: each combination of the levels of all axes is a cell of the study."""
    without: tuple[dict[str, Any], ...] = ()
    """Combinations of levels that are no cells, each a mapping of axes to levels: every cell that has all of an entry's levels."""
    report: ReportEntry
    """What is compared, and how it is shown."""
    match: Literal["auto", "compute", "steps", "none"] = "auto"
    """What the arms, the levels of the first axis of report.compare, have in common: the MACs of all their stages (compute), their
    optimizer steps (steps), or only their recipes (none). An arm that costs less gets more epochs in its last stage. auto: compute
    for a comparison of levels, none for a comparison with a published table."""
    budget_macs: Positive | None = None
    """MACs that every arm may spend over all its stages, with match=compute; none: those of the arm that costs most as written."""
    size: SizeEntry | None = None
    """Budget of time and public weights of a study that is sized to its images; none: it is as written."""
    sizing: tuple[SizingEntry, ...] = ()
    """How the study was sized: choices with their reasons, which the report lists. They change nothing."""
    sized_by: str = ""
    """What followed `python -m recipes run` when the study was sized; the report prints it. Dropped where this file is run."""
    tune: TuneEntry | None = None
    """How each arm's length and other keys of the last stage are chosen, on validation images; none: recipes as written."""
    baselines: BaselinesEntry | None = None
    """k-NN and linear probe on the pre-trained features, on the untrained network's and on pixels; none: not run."""
    slurm: SlurmEntry | None = None
    """What each run asks of a Slurm cluster, with --engine slurm; a file given by --slurm overrides it key by key."""
    ray: RayEntry | None = None
    """The Ray cluster and what each run asks of it, with --engine ray; a file given by --ray overrides it key by key."""
    scales: tuple[str, ...] = ()
    """Scales at which the study can run, the paper's first, if it is written in a paper's terms; empty: only its own."""
    set: Settings = {}
    """Overrides of recipe keys for every run, like those of the command line."""
    scale: str | None = None
    """Scale at which it runs."""
    seeds: tuple[Seed, ...] = ()
    """Levels of the axis of the repeats, instead of those of the study or the scale."""
    levels: dict[
        str, Annotated[tuple[Any, ...], Field(min_length=1), Otherwise("is empty: name a level of the axis.")]
    ] = {}
    """Levels that are run, by axis; those of other axes are all run. The report is on these alone."""
    epochs_factor: Positive = 1.0
    """Factor on the epochs of every stage of every arm, after matching and choices; warm-ups keep their share of the run."""


def valid_sections(mapping: Mapping[str, Any]) -> StudyFile:
    """Return the valid sections of a study, whose problems with each other are reported, too; None for an invalid report."""
    parts: dict[str, Any] = {"name": str(mapping.get("name", "")), "stages": {}, "axes": {}, "report": None}
    for name, value in mapping.items():
        each_entry = name in ("stages", "axes") and isinstance(value, dict)
        for piece in [{key: entry} for key, entry in value.items()] if each_entry else [value]:
            if name in StudyFile.model_fields and (section := read(_model_of(name), {name: piece})[0]) is not None:
                valid = getattr(section, name)
                parts[name] = parts[name] | valid if each_entry else valid
    return StudyFile.model_construct(**parts)


@cache
def _model_of(name: str) -> type[FileSection]:
    """Return a model of one section of a study file."""
    field = StudyFile.model_fields[name]
    return create_model(name, __base__=FileSection, **{name: (field.annotation, field)})  # type: ignore[call-overload, no-any-return]
