"""Studies of the repository: every published table and figure has one, and each can be planned at each of its scales."""

import re

import pytest
from planned_studies import SCALES, planned, study_file

from recipes.study.cost import DatasetSize, estimate
from recipes.study.published import CRASH, load_published_table, published_table_names
from recipes.study.report_specification import TableReportSpec
from recipes.study.scales import load_scale
from recipes.study.specification import REPOSITORY
from recipes.study.study_file import load_study

PLANNED = [pytest.param(name, scale, id=f"{name}-{scale}") for name, scales in SCALES.items() for scale in scales]


@pytest.mark.parametrize(("name", "scale"), PLANNED)
def test_every_study_plans_at_every_scale(name: str, scale: str | None) -> None:
    plan = planned(name, scale)
    assert plan.runs and all(cell.runs for cell in plan.cells)
    known = load_scale(scale) if scale else None
    size = DatasetSize(known.train_images, known.num_classes) if known else DatasetSize(1438, 10)  # type: ignore[arg-type]
    for run in {run.stage: run for run in plan.runs}.values():
        cost = estimate(run, size)
        has_cost = run.module != "common.evaluation complexity"
        assert (cost.images > 0 and cost.macs_per_image > 0) == has_cost


def test_every_published_table_has_a_study() -> None:
    tables = set()
    for name, scales in SCALES.items():
        spec = load_study(study_file(name), scale=scales[0]).report
        tables |= {spec.table} if isinstance(spec, TableReportSpec) else set()
    assert tables - {None} == set(published_table_names())


def test_every_experiment_of_early_convolutions_has_a_study() -> None:
    wanted = ("complexity", "training_length", "optimizers", "hyperparameters", "peak")
    assert {f"early_conv_{name}" for name in wanted} <= SCALES.keys()


@pytest.mark.parametrize("name", [name for name in SCALES if "scaled_relu" in name])
def test_every_published_row_is_a_row_of_its_study(name: str) -> None:
    study = load_study(study_file(name), scale="imagenet1k")
    assert isinstance(study.report, TableReportSpec) and study.report.table
    rows = [row.entries for row in load_published_table(study.report.table).rows]
    ours = [study.columns({**cell.levels}) for cell in planned(name, "imagenet1k").cells]
    for row in rows:
        assert any(all(row[key] == value for key, value in columns.items() if key in row) for columns in ours), row


def test_tables_share_the_runs_that_they_have_in_common() -> None:
    def digests(name: str) -> set[str]:
        return {run.digest for run in planned(name, "digits").runs}

    table1, table2, table3 = (digests(f"scaled_relu_table{n}") for n in ("1", "2_deit", "3"))
    assert len(table1 & table2) == 4  # patchify and conv at 1e-3 with AdamW, patchify at 5e-4, conv at 1e-3 with SAM
    assert len(table2 & table3) == 4
    assert digests("scaled_relu_convergence") <= table1
    assert digests("early_conv_training_length") < digests("early_conv_optimizers")
    assert digests("early_conv_peak") & digests("early_conv_training_length")
    assert digests("scaled_relu_table6") & digests("scaled_relu_table7") & digests("scaled_relu_table2_dino")


def test_the_points_of_the_hyperparameter_study_are_fixed() -> None:
    plan = planned("early_conv_hyperparameters", "imagenet1k")
    assert len(plan.runs) == 3 * 2 * 64
    first = next(run for run in plan.runs if run.levels["draw"] == "00" and "vit_p_1gf-adamw" in run.levels["network"])
    sampled = dict(word.split("=") for word in first.overrides if re.match(r"optim\.(lr|weight_decay)=", word))
    assert sampled == {"optim.lr": "0.000501678", "optim.weight_decay": "0.035926"}


def test_the_published_values_support_every_claim() -> None:
    claims = 0
    for name, scales in SCALES.items():
        spec = load_study(study_file(name), scale=scales[0]).report
        for pair in spec.pairs if isinstance(spec, TableReportSpec) and spec.table else ():
            table = load_published_table(spec.table)
            rows = [table.find(side, spec.metrics) for side in (pair.base, pair.other)]
            if rows[0] is None or rows[1] is None:
                continue  # the paper prints only one side
            base, other = (row.value(next(iter(spec.metrics))) for row in rows if row)
            below = -1.0 if base == CRASH else base
            assert isinstance(other, float) and isinstance(below, float) and other > below, (name, pair.claim)
            claims += 1
    assert claims > 20


@pytest.mark.parametrize("scale", sorted({scale for scales in SCALES.values() for scale in scales if scale}))
def test_every_rule_of_a_scale_applies_to_a_key_that_a_study_sets(scale: str) -> None:
    known, used = load_scale(scale), set()
    for name, scales in SCALES.items():
        if scale not in scales:
            continue
        study = planned(name, scale, every_stage=True).study
        stages = study.mapping["stages"]
        for stage in study.stages:
            recipe = (REPOSITORY / stages[stage.name]["recipe"]).resolve()
            varied = [axis.levels[level] for axis in study.axes for level in axis.levels]
            used |= {(recipe, key) for settings in (stage.settings, *varied) for key in study.keys_of(stage, settings)}
    rules = {(recipe, key) for recipe, scaled in known.recipes.items() for key in scaled.scale_rules}
    assert {(str(recipe.relative_to(REPOSITORY)), key) for recipe, key in rules - used} == set()
