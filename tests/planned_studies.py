"""Plans of the repository's studies at their scales, each made once for all tests: with one seed, if the study has any."""

from functools import cache
from pathlib import Path

from common.yaml_text import read_yaml
from recipes.stages import resolve_by_config
from recipes.study.plan import Plan, make_plan
from recipes.study.specification import STUDIES, Study
from recipes.study.study_file import load_study

SCALES: dict[str, list[str | None]] = {
    path.stem: read_yaml(path.read_text()).get("scales") or [None] for path in sorted(STUDIES.glob("*.yaml"))
}
"""Scales of every study by its name; None for a study with its own scale only."""


def study_file(name: str) -> Path:
    """Return the file of a study."""
    return STUDIES / f"{name}.yaml"


@cache
def planned(name: str, scale: str | None, *, every_stage: bool = False) -> Plan:
    """Return the plan of a study; with `every_stage` no published weights replace a stage."""
    stages = read_yaml(study_file(name).read_text())["stages"]
    published = tuple(f"{stage}.published=none" for stage, entry in stages.items() if "published" in entry)
    if published and every_stage:
        return make_plan(_load(name, scale, published), resolve_by_config)
    return planned(name, scale) if every_stage else make_plan(_load(name, scale, ()), resolve_by_config)


def _load(name: str, scale: str | None, overrides: tuple[str, ...]) -> Study:
    """Return a study with one seed, if it has any."""
    return load_study(study_file(name), overrides, scale, () if name == "early_conv_complexity" else (0,))
