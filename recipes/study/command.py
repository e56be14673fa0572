"""The command that runs a study, from the study itself."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from recipes.study.plan import format_value
from recipes.study.report_specification import ReportSpec
from recipes.study.scale_rules import name_value
from recipes.study.specification import REPOSITORY, STUDIES, Study

RUN = ("python", "-m", "recipes", "run")


def run_command(study: Study) -> list[str]:
    """Return the words of the command that runs a study, without its folder.

    A study that was sized to its images states its command: what it chose is in its file, and not on the command line.
    """
    mapping = study.mapping
    if mapping.get("sized_by"):
        return [*RUN, *shlex.split(mapping["sized_by"])]
    name = Path(study.source).stem
    is_ours = REPOSITORY / study.source == STUDIES / f"{name}.yaml"  # named from any working directory
    words = [name if is_ours else study.source]
    words += [f"{key}={format_value(value)}" for key, value in mapping.get("set", {}).items()]
    usual = "compute" if isinstance(study.report, ReportSpec) else "none"
    words += [f"match={mapping['match']}"] if mapping.get("match", usual) != usual else []
    words += ["tune=none"] if "tune" in mapping and not isinstance(mapping["tune"], Mapping) else []
    words += ["--scale", str(mapping["scale"])] if "scale" in mapping else []
    words += ["--seeds", ",".join(map(str, mapping["seeds"]))] if "seeds" in mapping else []
    for axis, levels in mapping.get("levels", {}).items():
        words += ["--levels", f"{axis}={','.join(map(name_value, levels))}"]
    words += ["--epochs-factor", f"{factor:g}"] if (factor := mapping.get("epochs_factor", 1)) != 1 else []
    return [*RUN, *words]
