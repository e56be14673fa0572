"""Coverage of a comparison's intervals and rate of its false claims: `python -m benchmarks coverage [--draws 4000] [--json FILE]`.

Studies of two stems, one- and two-stage training and three amounts of labels are simulated and evaluated by the code of the
report. A run is correct on a test image if mean + image effect + image-by-cell effect + seed effect + noise is positive (a probit
model with crossed random effects). The truth is the probability for future images and seeds. The scenario "real" draws seeds and
images with replacement from the predictions of real runs (--real FILE; benchmarks/results/coverage_predictions.npz). "unequal
classes" and "rare classes" are studies of metrics that are means over classes (benchmarks/class_average_studies.py), "chosen among"
those of public weights against the best training from scratch (benchmarks/start_studies.py).
"""

import argparse
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.class_average_studies import CLASS_SIZES, class_average_intervals
from benchmarks.simulated_report import SPEC
from benchmarks.start_studies import ACCURACIES, start_intervals
from common.cores import available_cores
from common.json_text import to_json
from recipes.reports.comparison.cell_values import StudyValues, read_values
from recipes.reports.comparison.claims import Outcome, find_claims
from recipes.reports.comparison.estimator import Estimator, Levels
from recipes.reports.comparison.label_savings import invert, monotone_fit
from recipes.reports.crossed_effects import CellValues
from recipes.reports.metrics import find_metric
from recipes.reports.results import read_study
from recipes.reports.statistics import Interval

AXES = {"stem": ["patchify", "conv"], "training": ["OST", "TST"], "fraction": ["0.1", "0.3", "1.0"]}
NUM_LABELS = 1151
"""With a fraction of 1."""
METRIC = find_metric("test_top1")
NUM_IMAGES = 359
NUM_CLASSES = 10
SEEDS = (3, 5, 10)
LEAST, MOST = 93.0, 98.0
"""Coverage in percent that every interval must reach, and must not exceed."""
REAL = Path(__file__).parent / "results" / "coverage_predictions.npz"
Cells = dict[tuple[str, ...], Any]


def cells(axes: Mapping[str, Sequence[str]]) -> list[Levels]:
    """Return the levels of every cell."""
    return [dict(zip(axes, levels)) for levels in itertools.product(*axes.values())]


@dataclass(frozen=True)
class Scenario:
    """A probit model: accuracies in percent by stem, training and fraction, and standard deviations on the latent scale."""

    title: str
    accuracy: Mapping[str, tuple[float, float, float]]
    """By "stem training": the accuracy at each fraction."""
    seed: tuple[float, float, float] = (0.10, 0.07, 0.05)
    """Standard deviation of the seeds at each fraction."""
    shared: float = 0.5
    """Part of the seeds' variance that the fractions of an arm share, as through its pre-training."""
    subset: float = 0.0
    """Part of the seeds' variance that all arms share at a fraction, as through the labeled subset."""
    pretraining: float = 0.0
    """Standard deviation of a pre-training that all seeds of a two-stage arm share; the truth is for this pre-training."""
    diverged: float = 0.0
    """Probability that a one-stage run diverges."""
    shares_one_stage: bool = False
    """Whether both stems have the same one-stage runs, as two recipes of pre-training have."""
    image: float = 1.6
    by_cell: float = 0.6


BASE = {
    "patchify OST": (86.0, 93.0, 97.0),
    "patchify TST": (89.0, 94.0, 97.0),
    "conv OST": (94.0, 97.0, 98.7),
    "conv TST": (94.5, 97.0, 98.7),
}
SAME = dict.fromkeys(BASE, (88.0, 93.0, 97.0))
OPPOSITE = BASE | {"patchify TST": (90.0, 95.0, 98.0), "conv TST": (90.0, 95.0, 97.5)}
STEEP = {
    "patchify OST": (55.0, 80.0, 97.0),
    "patchify TST": (70.0, 88.0, 97.0),
    "conv OST": (60.0, 85.0, 98.0),
    "conv TST": (67.0, 90.0, 98.0),
}
"""Curves on which the intervals of label savings are narrow."""
SCENARIOS = (
    Scenario("calibrated", BASE),
    Scenario("unequal variances", BASE, seed=(0.35, 0.15, 0.04)),
    Scenario("shared pre-training", BASE, pretraining=0.15),
    Scenario("shared subsets", BASE, seed=(0.30, 0.15, 0.05), shared=0.4, subset=0.3),
    Scenario("diverged runs", BASE, diverged=0.1),
    Scenario("no effect", SAME),
    Scenario("opposite effects", OPPOSITE),
    Scenario("shared one-stage runs", BASE | {"conv OST": BASE["patchify OST"]}, shares_one_stage=True),
    Scenario("narrow", STEEP, seed=(0.02, 0.02, 0.02), image=0.3, by_cell=0.1),
    Scenario("3 points", BASE | {"patchify TST": (89.5, 96.0, 99.5)}),
)


def draws(scenario: Scenario, seeds: int, count: int, rng: np.random.Generator) -> Iterator[tuple[StudyValues, Cells]]:
    """Yield simulated studies, each with the true accuracies of its cells."""
    levels = cells(AXES)
    sizes = np.array([scenario.seed[AXES["fraction"].index(each["fraction"])] for each in levels])
    arms = [f"{each['stem']} {each['training']}" for each in levels]
    wanted = np.array(
        [scenario.accuracy[arm][AXES["fraction"].index(each["fraction"])] for arm, each in zip(arms, levels)]
    )
    own = scenario.image**2 + scenario.by_cell**2 + 1
    means = stats.norm.ppf(wanted / 100) * np.sqrt(own + sizes**2)
    is_two_stage = np.array([each["training"] == "TST" for each in levels])
    for _ in range(count):
        shared = {arm: rng.normal(size=seeds) for arm in dict.fromkeys(arms)}
        pretrained = {arm: rng.normal(scale=scenario.pretraining) for arm in dict.fromkeys(arms)}
        offset = np.array([pretrained[arm] for arm in arms]) * is_two_stage
        common = np.stack([shared[arm] for arm in arms])
        subsets = (
            {x: rng.normal(size=seeds) for x in AXES["fraction"]}
            if scenario.subset
            else dict.fromkeys(AXES["fraction"], 0.0)
        )
        effects = np.sqrt(scenario.shared) * common + np.sqrt(scenario.subset) * np.stack(
            [subsets[each["fraction"]] + np.zeros(seeds) for each in levels]
        )
        effects += np.sqrt(1 - scenario.shared - scenario.subset) * rng.normal(size=common.shape)
        image = rng.normal(scale=scenario.image, size=NUM_IMAGES) + rng.normal(
            scale=scenario.by_cell, size=(len(levels), NUM_IMAGES)
        )
        latent = (means + offset)[:, None, None] + (sizes[:, None] * effects)[:, :, None] + image[:, None, :]
        correct = 100.0 * (latent + rng.standard_normal(latent.shape, dtype=np.float32) > 0)
        truth = 100 * stats.norm.cdf((means + offset) / np.sqrt(own + sizes**2))
        failed = (rng.random((len(levels), seeds)) < scenario.diverged) & ~is_two_stage[:, None]
        study = _as_study(levels, correct, failed)
        if scenario.shares_one_stage:
            same = {("conv", "OST", x): ("patchify", "OST", x) for x in AXES["fraction"]}
            study = replace(study, cells={key: study.cells[same.get(key, key)] for key in study.cells}, same=same)
        yield study, {tuple(each.values()): value for each, value in zip(levels, truth)}


def real_draws(
    matrices: Mapping[str, Any], seeds: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[StudyValues, Cells]]:
    """Yield studies whose seeds and images are drawn with replacement from those of real runs; the truth is their mean."""
    levels = cells(axes_of(matrices))
    values = np.stack([matrices["/".join(each.values())] for each in levels]).astype(np.float64)
    truth = {tuple(each.values()): value for each, value in zip(levels, values.mean((1, 2)))}
    for _ in range(count):
        images = rng.integers(values.shape[2], size=values.shape[2])
        arms = {(each["stem"], each["training"]): rng.integers(values.shape[1], size=seeds) for each in levels}
        rows = np.stack([values[n][arms[each["stem"], each["training"]]][:, images] for n, each in enumerate(levels)])
        yield _as_study(levels, rows, np.zeros(rows.shape[:2], dtype=bool)), truth


def axes_of(matrices: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the levels of the axes of real runs, whose names are stem/training/fraction."""
    names = zip(*(name.split("/") for name in matrices))
    return {axis: list(dict.fromkeys(levels)) for axis, levels in zip(AXES, names, strict=True)}


def save_real(folder: Path, file: Path) -> None:
    """Write the predictions of a study's runs as `real_draws` reads them: right (100) or wrong (0) by seed and image."""
    study = read_study(folder)
    values = read_values(study, METRIC, SPEC.repeats, NUM_CLASSES)
    order = [values.axes.index(axis) for axis in AXES]
    matrices = {"/".join(key[n] for n in order): cell.values.astype(np.uint8) for key, cell in values.cells.items()}
    np.savez_compressed(file, **matrices)


def _as_study(levels: Sequence[Levels], correct: Any, failed: Any) -> StudyValues:
    """Return simulated values as the report reads them."""
    names = [str(seed) for seed in range(correct.shape[1])]
    found: Cells = {}
    diverged: Cells = {}
    for each, rows, lost in zip(levels, correct, failed):
        key = tuple(each.values())
        kept = [n for n, gone in enumerate(lost) if not gone]
        if kept:
            found[key] = CellValues(tuple(names[n] for n in kept), rows[kept])
        if lost.any():
            diverged[key] = tuple(names[n] for n in range(len(names)) if lost[n])
    planned = {tuple(each.values()): tuple(names) for each in levels}
    return StudyValues(tuple(AXES), found, diverged, planned, METRIC.chance(NUM_CLASSES))


def intervals(estimator: Estimator, truth: Cells) -> Iterator[tuple[str, str, Interval, float]]:
    """Yield the kind, the name, the interval and the truth of everything that the report prints with an interval."""

    def true(weights: Sequence[tuple[float, Levels]]) -> float:
        return float(sum(weight * truth[tuple(levels[axis] for axis in estimator.axes)] for weight, levels in weights))

    for levels in estimator.combinations():
        yield "mean of a cell", "/".join(levels.values()), estimator.mean(levels).interval, true([(1.0, levels)])
    for axis, (base, other) in SPEC.compare.items():
        effect = estimator.effect(axis, base, other)
        groups = (
            ("difference", effect.by_setting),
            ("average by panel", effect.by_panel),
            ("average by labels", effect.by_x),
            ("average", [effect.pooled]),
        )
        for kind, estimates in groups:
            for each in estimates:
                settings = [
                    s
                    for s in estimator.combinations(axis)
                    if all(s[name] == level for name, level in each.levels.items())
                ]
                weights = [
                    (sign / len(settings), {**s, axis: name})
                    for s in settings
                    for sign, name in ((-1.0, base), (1.0, other))
                ]
                yield f"{kind}, {axis}", "/".join(each.levels.values()), each.interval, true(weights)
    (main, (base, other)), (second, (base2, other2)) = SPEC.compare.items()
    xs = estimator.xs
    weights = [
        (sign * sign2 / len(xs), {main: name, second: name2, "fraction": x})
        for x in xs for sign, name in ((-1.0, base), (1.0, other)) for sign2, name2 in ((-1.0, base2), (1.0, other2))
    ]  # fmt: skip
    interaction = estimator.interaction()
    assert interaction is not None
    yield "interaction", "", interaction, true(weights)
    weights = [
        (sign / len(xs), {second: a, main: b, "fraction": x})
        for x in xs
        for sign, a, b in ((-1.0, base2, other), (1.0, other2, base))
    ]
    yield "stem against pre-training", "", estimator.sum(weights), true(weights)


@dataclass
class Tally:
    """How often an interval was printed and covered the truth, and its mean width."""

    printed: int = 0
    covered: int = 0
    width: float = 0.0

    def add(self, low: float, high: float, truth: float) -> None:
        """Count an interval."""
        self.printed += 1
        self.covered += low <= truth <= high
        self.width += high - low if np.isfinite(high - low) else 0.0

    def merge(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        self.printed, self.covered, self.width = (
            self.printed + other.printed,
            self.covered + other.covered,
            self.width + other.width,
        )

    @property
    def percent(self) -> float:
        """Return the coverage in percent."""
        return 100 * self.covered / self.printed

    @property
    def error(self) -> float:
        """Return the Monte Carlo standard error of the coverage."""
        share = self.covered / self.printed
        return 100 * float(np.sqrt(share * (1 - share) / self.printed))


def simulate(job: tuple[str, int, int, int], real: Mapping[str, Any] | None) -> dict[tuple[str, str], Tally]:
    """Return the tallies of a batch of draws: (title of the scenario, seeds, draws, number of the batch)."""
    title, seeds, count, number = job
    rng = np.random.default_rng([number, seeds, sum(title.encode())])
    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    if title in CLASS_SIZES:
        for kind, name, found, true in class_average_intervals(title, seeds, count, rng):
            tallies[f"{kind}, {name}", name].add(found.low, found.high, true)
        return dict(tallies)
    if title in ACCURACIES:
        for kind, name, found, true in start_intervals(title, seeds, count, rng):
            tallies[kind, name].add(found.low, found.high, true)
        return dict(tallies)
    if title == "real":
        assert real is not None
        source = real_draws(real, seeds, count, rng)
    else:
        source = draws(next(each for each in SCENARIOS if each.title == title), seeds, count, rng)
    axes = axes_of(real) if title == "real" and real is not None else AXES
    for values, truth in source:
        estimator = Estimator(axes, SPEC, values, METRIC)
        for kind, name, found, true in intervals(estimator, truth):
            if found.is_known:
                tallies[kind, name].add(found.low, found.high, true)
        for panel in estimator.combinations("training", "fraction"):
            _add_saving(estimator, truth, panel, tallies)
        chance = Estimator(axes, SPEC, values.with_chance(), METRIC)
        claims = find_claims(estimator, chance, {"stem": "patchify"}, "0.1")
        made = [claim for claim in claims if claim.outcome in (Outcome.BETTER, Outcome.WORSE)]
        tallies["a claim is made", ""].add(0.0 if made else 1.0, 1.0, 0.5)
        effect = any(claim.name == "effect" and claim.outcome is Outcome.BETTER for claim in claims)
        tallies["the effect is claimed as better", ""].add(0.0 if effect else 1.0, 1.0, 0.5)
    return dict(tallies)


def _add_saving(estimator: Estimator, truth: Cells, panel: Levels, tallies: dict[tuple[str, str], Tally]) -> None:
    """Count the label saving of a panel: as an interval, open or not, and where a number is stated."""
    labels = {x: round(NUM_LABELS * float(x)) for x in estimator.xs}
    saving = estimator.saving(panel, "0.1", labels)
    if saving is None or np.isnan(saving.low):
        return
    curve = [truth[panel["stem"], "OST", x] for x in estimator.xs]
    true = invert(monotone_fit(curve, [float(labels[x]) for x in estimator.xs]), truth[panel["stem"], "TST", "0.1"])
    tallies["labels saved, open or not", panel["stem"]].add(saving.low, saving.high, true)
    if saving.is_bounded:
        tallies["labels saved, stated", panel["stem"]].add(saving.low, saving.high, true)


def run(
    titles: Sequence[str], number_of_draws: int, processes: int, real: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """Return a row per scenario, number of seeds and kind of interval: mean, smallest and largest coverage over its intervals."""
    batch = max(1, number_of_draws // (4 * processes))
    rows = []
    with ProcessPoolExecutor(processes) as pool:  # a multiprocessing.Pool ends by SIGTERM, which a process may handle
        for title in titles:
            for seeds in SEEDS:
                jobs = [
                    (title, seeds, min(batch, number_of_draws - start), start)
                    for start in range(0, number_of_draws, batch)
                ]
                total: dict[tuple[str, str], Tally] = defaultdict(Tally)
                for part in pool.map(partial(simulate, real=real), jobs):
                    for key, tally in part.items():
                        total[key].merge(tally)
                rows += _rows(title, seeds, total)
                show([row for row in rows if (row["scenario"], row["seeds"]) == (title, seeds)])
    return rows


def _rows(title: str, seeds: int, total: Mapping[tuple[str, str], Tally]) -> list[dict[str, Any]]:
    by_kind: dict[str, list[Tally]] = defaultdict(list)
    for (kind, _), tally in total.items():
        by_kind[kind].append(tally)
    rows = []
    for kind, tallies in by_kind.items():
        worst, best = min(tallies, key=lambda t: t.percent), max(tallies, key=lambda t: t.percent)
        rows.append(
            {
                "scenario": title, "seeds": seeds, "kind": kind, "intervals": len(tallies), "draws": worst.printed,
                "mean": round(float(np.mean([t.percent for t in tallies])), 2), "smallest": round(worst.percent, 2),
                "largest": round(best.percent, 2), "error": round(worst.error, 2),
                "width": round(float(np.mean([t.width / t.printed for t in tallies])), 2),
            }
        )  # fmt: skip
    return rows


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of rows."""
    first = rows[0]
    print(f"\n{first['scenario']}, {first['seeds']} seeds, {NUM_IMAGES} test images")
    for row in rows:
        if "claim" in row["kind"]:
            print(f"  {row['kind']:36} {row['mean']:6.1f}% of studies (+- {row['error']:.1f})")
            continue
        is_bad = not row["kind"].startswith("labels") and not (row["smallest"] >= LEAST and row["largest"] <= MOST)
        mark = "  <-- outside 93 to 98" if is_bad else ""
        spread = f"{row['smallest']:.1f} to {row['largest']:.1f}" if row["intervals"] > 1 else f"{row['mean']:.1f}"
        print(
            f"  {row['kind']:36} {spread:>14} (+- {row['error']:.1f}) of {row['intervals']:2d}, width {row['width']:6.2f}{mark}",
            flush=True,
        )


def main(arguments: Sequence[str]) -> int:
    """Simulate, print the tables and write them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks coverage", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--draws",
        type=int,
        default=4000,
        help="simulated studies per scenario and number of seeds (default: %(default)s)",
    )
    parser.add_argument("--scenarios", nargs="*", metavar="TITLE", help="titles of scenarios; default: all")
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument(
        "--real", type=Path, default=REAL, help="predictions of real runs: an .npz with an array (S, N) per cell"
    )
    parser.add_argument(
        "--save-real", type=Path, metavar="STUDY", help="only write --real from the folder of a finished study"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    options = parser.parse_args(arguments)
    if options.save_real:
        save_real(options.save_real, options.real)
        return 0
    real = dict(np.load(options.real)) if options.real.is_file() else None
    known = [*(scenario.title for scenario in SCENARIOS), *CLASS_SIZES, *ACCURACIES, *(["real"] if real else [])]
    titles = options.scenarios or known
    if unknown := [title for title in titles if title not in known]:
        parser.error(f"{', '.join(unknown)}: no such scenario. Known scenarios: {', '.join(known)}")
    rows = run(titles, options.draws, options.processes, real)
    if options.json:
        options.json.write_text(to_json(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
