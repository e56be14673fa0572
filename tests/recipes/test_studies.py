"""The studies of the house: every table and figure of the papers has one, and each plans at every scale it is offered at."""

import re

import pytest

from recipes.stages import resolve_by_config
from recipes.study.cost import SetSize, estimate
from recipes.study.plan import Plan, make_plan
from recipes.study.published import CRASH, load_printed, printed_names
from recipes.study.scales import load_scale
from recipes.study.sections import read_yaml
from recipes.study.specification import REPOSITORY, STUDIES, TableReading
from recipes.study.study_file import load_study

OFFERED = {path: read_yaml(path.read_text()).get("scales") or [None] for path in sorted(STUDIES.glob("*.yaml"))}
PLANNED = [pytest.param(path, scale, id=f"{path.stem}-{scale}") for path, all_ in OFFERED.items() for scale in all_]


def planned(path, scale) -> Plan:  # type: ignore[no-untyped-def]
    """Return the plan of a study with one seed; what is counted has none."""
    seeds = () if path.stem == "early_conv_complexity" else (0,)
    return make_plan(load_study(path, scale=scale, seeds=seeds), resolve_by_config)


@pytest.mark.parametrize(("path", "scale"), PLANNED)
def test_every_study_plans_at_every_scale(path, scale) -> None:  # type: ignore[no-untyped-def]
    plan = planned(path, scale)
    assert plan.runs and all(cell.runs for cell in plan.cells)
    known = load_scale(scale) if scale else None
    size = SetSize(known.train_images, known.num_classes) if known else SetSize(1438, 10)  # type: ignore[arg-type]
    for run in {run.stage: run for run in plan.runs}.values():
        cost = estimate(run, size)
        counts = run.module != "common.evaluation complexity"
        assert (cost.images > 0 and cost.multiply_adds_per_image > 0) == counts


def test_every_printed_table_has_a_study_that_stands_beside_it() -> None:
    beside = set()
    for path, scales in OFFERED.items():
        reading = load_study(path, scale=scales[0]).reading
        beside |= {reading.table} if isinstance(reading, TableReading) else set()
    assert beside - {None} == set(printed_names())


def test_every_experiment_of_the_early_convolutions_has_a_study() -> None:
    names = {path.stem for path in OFFERED}
    wanted = ("complexity", "training_length", "optimizers", "hyperparameters", "peak")
    assert {f"early_conv_{name}" for name in wanted} <= names


@pytest.mark.parametrize("path", [path for path in OFFERED if "scaled_relu" in path.stem], ids=lambda path: path.stem)
def test_the_rows_of_a_study_are_the_rows_that_the_paper_prints(path) -> None:  # type: ignore[no-untyped-def]
    study = load_study(path, scale="imagenet1k")
    assert isinstance(study.reading, TableReading) and study.reading.table
    rows = [row.entries for row in load_printed(study.reading.table).rows]
    ours = [study.columns({**cell.levels}) for cell in planned(path, "imagenet1k").cells]
    for row in rows:
        assert any(all(row[name] == value for name, value in mine.items() if name in row) for mine in ours), row


def test_runs_that_two_tables_have_in_common_have_one_name() -> None:
    def digests(name: str) -> set[str]:
        return {run.digest for run in planned(STUDIES / f"{name}.yaml", "digits").runs}

    table1, table2, table3 = (digests(f"scaled_relu_table{n}") for n in ("1", "2_deit", "3"))
    assert len(table1 & table2) == 4  # patchify and conv at 1e-3 with AdamW, patchify at 5e-4, conv at 1e-3 with SAM
    assert len(table2 & table3) == 4
    assert digests("scaled_relu_convergence") <= table1
    assert digests("early_conv_training_length") < digests("early_conv_optimizers")
    assert digests("early_conv_peak") & digests("early_conv_training_length")
    assert digests("scaled_relu_table6") & digests("scaled_relu_table7") & digests("scaled_relu_table2_dino")


def test_the_draws_of_the_hyper_parameter_study_are_these() -> None:
    plan = planned(STUDIES / "early_conv_hyperparameters.yaml", "imagenet1k")
    assert len(plan.runs) == 3 * 2 * 64
    first = next(run for run in plan.runs if run.levels["draw"] == "00" and "vit_p_1gf-adamw" in run.levels["network"])
    drawn = dict(word.split("=") for word in first.overrides if re.match(r"optim\.(lr|weight_decay)=", word))
    assert drawn == {"optim.lr": "0.000501678", "optim.weight_decay": "0.035926"}


def test_every_claim_is_one_that_the_paper_prints() -> None:
    claims = 0
    for path, scales in OFFERED.items():
        reading = load_study(path, scale=scales[0]).reading
        for pair in reading.pairs if isinstance(reading, TableReading) and reading.table else ():
            table = load_printed(reading.table)
            rows = [table.find(side, reading.metrics) for side in (pair.base, pair.other)]
            if rows[0] is None or rows[1] is None:
                continue  # the paper prints one side alone
            base, other = (row.value(next(iter(reading.metrics))) for row in rows if row)
            below = -1.0 if base == CRASH else base
            assert isinstance(other, float) and isinstance(below, float) and other > below, (path.stem, pair.claim)
            claims += 1
    assert claims > 20


@pytest.mark.parametrize("scale", sorted({scale for scales in OFFERED.values() for scale in scales if scale}))
def test_every_rule_of_a_scale_translates_something_that_a_study_sets(scale: str) -> None:
    known, used = load_scale(scale), set()
    for path, scales in OFFERED.items():
        if scale not in scales:
            continue
        asked = read_yaml(path.read_text())["stages"]
        trained = tuple(f"{stage}.published=none" for stage, entry in asked.items() if "published" in entry)
        study = load_study(path, trained, scale)
        for stage in study.stages:
            recipe = (REPOSITORY / asked[stage.name]["recipe"]).resolve()
            varied = [axis.levels[level] for axis in study.axes for level in axis.levels]
            used |= {
                (recipe, key) for settings in (stage.settings, *varied) for key in study.addressed(stage, settings)
            }
    rules = {(recipe, key) for recipe, scaled in known.recipes.items() for key in scaled.translations}
    assert {(str(recipe.relative_to(REPOSITORY)), key) for recipe, key in rules - used} == set()
