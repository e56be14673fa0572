"""The study my_images on a folder of images: its plan is what the sizing chose."""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from fake_slurm import install
from PIL import Image
from safetensors.torch import save_file

from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from recipes.__main__ import main
from recipes.arguments import parse
from recipes.command_words import study_words, words_of_size
from recipes.sizing import complete, machine, measures
from recipes.sizing.complete import SizeOptions, complete_study
from recipes.sizing.compute import SPEED
from recipes.sizing.duration import read_duration
from recipes.sizing.gpu_process import measuring_process
from recipes.sizing.known_rates import FILE
from recipes.sizing.load import Load
from recipes.sizing.machine import Machine, Rate, measure_rate
from recipes.stages import load_config, resolve_by_config
from recipes.study.command import run_command
from recipes.study.cost import RunCosts
from recipes.study.full_plan import make_full_plan, measure_with
from recipes.study.plan import Plan, make_plan
from recipes.study.specification import STUDIES
from recipes.study.study_file import build_study, find_study, load_study

RATE = 1e10
"""MACs per second that the measurement is made to return."""


@pytest.fixture(autouse=True)
def rate(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make every measurement return the same rate; return a list of what was measured."""
    measured: list[str] = []

    def measure_rate(machine: object, model: object, **sizes: int) -> Rate:
        measured.append(f"{model} {sizes}")
        return Rate(RATE)

    monkeypatch.setattr(measures, "measure_rate", measure_rate)
    return measured


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with 60 images of each of two classes, of 32 px."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:03}.png")
    return tmp_path / "photos"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Return a file of public weights."""
    model = ModelConfig(name="vit_tiny", patch_size=16)
    network = build_network(model, image_size=96, num_classes=0, in_chans=3)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, tmp_path / "public.safetensors")
    return tmp_path / "public.safetensors"


def planned(photos: Path, folder: Path, *words: str, budget: str = "1h", public: str = "none") -> Plan:
    """Return the plan of the sized study."""
    study = load_study(STUDIES / "my_images.yaml", (f"data.source={photos}", *words))
    options = SizeOptions(budget, public)
    mapping, _ = complete_study(study, folder, options, jobs=2, cores=2, may_use_gpu=True, print_line=lambda line: None)
    sized = build_study(mapping, "sized", folder=STUDIES)
    return make_full_plan(sized, resolve_by_config, measure_with(RunCosts(None)))


def test_no_arm_spends_more_than_the_budget_and_all_runs_fit_the_time(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    plan, costs = planned(photos, tmp_path / "out", "tune=none", public=str(weights)), RunCosts(None)
    budget = plan.study.budget_macs
    assert budget is not None
    by_id = {run.id: run for run in plan.runs}
    macs = {run.id: costs.of(run).macs for run in plan.runs}
    for cell in plan.cells:
        names = {cell.runs["finetune"]}
        if (needs := by_id[cell.runs["finetune"]].needs) is not None:
            names.add(needs)
        assert 0.75 * budget < sum(macs[name] for name in names) <= budget
    trained = sum(macs[run.id] for run in plan.runs if run.stage != "baselines")
    assert trained / (2 * SPEED * RATE) <= 3600


def test_arms_and_their_starts(photos: Path, weights: Path, tmp_path: Path) -> None:
    plan = planned(photos, tmp_path / "out", budget="10h", public=str(weights))
    arms = {(cell.levels["training"], cell.levels["stem"]) for cell in plan.cells}
    scratch = {(training, stem) for training in ("OST", "TST") for stem in ("patchify", "conv")}
    assert arms == scratch | {("public", "patchify"), ("continued", "patchify")}
    by_id = {run.id: run for run in plan.runs}
    for cell in plan.cells:
        run = by_id[cell.runs["finetune"]]
        start = by_id[run.needs].stage if run.needs else None
        assert (
            start == {"OST": None, "TST": "pretrain", "public": None, "continued": "continue"}[cell.levels["training"]]
        )
        config = load_config(run.module, Path(run.recipe), run.overrides)
        assert (config.init == str(weights)) == (cell.levels["training"] == "public")
        assert (config.model.name == "init") == (cell.levels["training"] in ("public", "continued"))
        assert config.train.class_token_only  # in every arm: none pays for what its output does not depend on
    starts = {run.levels["training"] for run in plan.runs if run.levels.get("features") == "pre-trained"}
    assert starts == {"TST", "public", "continued"}


def test_choices_are_what_runs_are_planned_with(photos: Path, tmp_path: Path) -> None:
    plan = planned(photos, tmp_path / "out", "model.patch_size=16", "pretrain.optim.lr=0.01")
    (sizing,) = [plan.study.mapping["sizing"]]
    chosen = {each["key"]: yaml.safe_load(each["value"]) for each in sizing}
    for run in plan.runs:
        if run.stage == "baselines":
            continue
        config = load_config(run.module, Path(run.recipe), run.overrides)
        assert config.model.patch_size == chosen["scratch: model.patch_size"] == 16
        assert config.data.image_size == chosen["scratch: data.image_size"]
        if run.stage == "pretrain":
            assert config.optim.lr == chosen["pretrain: optim.lr"] == 0.01
            assert config.dino.out_dim == chosen["pretrain: dino.out_dim"]
            assert config.train.epochs == chosen[f"pretrain: train.epochs ({run.levels['stem']})"]


def test_the_command_that_sized_a_study_is_stated_until_its_file_is_run_itself(photos: Path, tmp_path: Path) -> None:
    """The keys that it chose are in the study, not on the command line: with them alone the study would be sized otherwise."""
    words = ["my_images", f"data.source={photos}", "model.patch_size=16", "--budget", "1h", "--public", "none"]
    study = load_study(STUDIES / "my_images.yaml", tuple(words[1:3]))
    options = SizeOptions("1h", "none", shlex.join(words))
    mapping, _ = complete_study(
        study, tmp_path, options, jobs=2, cores=2, may_use_gpu=True, print_line=lambda line: None
    )
    sized = build_study(mapping, "recipes/studies/my_images.yaml", folder=STUDIES)
    assert run_command(sized) == ["python", "-m", "recipes", "run", *words]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mapping))
    own = load_study(tmp_path / "mine.yaml")
    assert run_command(own) == ["python", "-m", "recipes", "run", str(tmp_path / "mine.yaml"), f"data.source={photos}"]
    assert own.budget_macs == sized.budget_macs


@pytest.mark.parametrize(
    ("words", "stated"),
    [
        (["run", "--jobs", "3", "--epochs-factor", "0.5"], ["--jobs", "3", "--epochs-factor", "0.5"]),
        (["run", "--accelerate-args=--cpu"], ["--accelerate-args=--cpu"]),
        (["plan", "--epochs-factor", "2"], ["--epochs-factor", "2"]),
        (
            ["run", "--engine", "slurm", "--jobs", "40"],
            [],
        ),  # in Slurm's queue: the study is sized by this machine alone
    ],
)
def test_a_sized_study_states_what_its_size_depends_on(words: list[str], stated: list[str]) -> None:
    command, *options = words
    parsed = parse([command, "my_images", "data.source=photos", "--budget", "1h", *options])
    assert [*study_words(parsed), *words_of_size(parsed)] == [
        *("my_images", "data.source=photos", "--budget", "1h"),
        *stated,
    ]


def test_gray_images_of_one_channel_with_public_weights_for_rgb(photos: Path, weights: Path, tmp_path: Path) -> None:
    plan = planned(photos, tmp_path / "out", "data.channels=1", budget="10h", public=str(weights))
    for run in plan.runs:
        config = load_config(run.module, Path(run.recipe), run.overrides)
        assert (config.data.channels, config.data.mean) == (1, "measured")


def test_a_longer_pretraining_than_the_budget_has_is_an_error(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leaves no epoch of finetune. Raise budget_macs or --budget"):
        planned(photos, tmp_path / "out", "pretrain.train.epochs=100000")


def test_keys_that_are_not_sized_are_those_of_every_run(photos: Path, tmp_path: Path) -> None:
    plan = planned(photos, tmp_path / "out", "data.on_corrupt=skip", "train.log_every=10")
    for run in plan.runs:
        config = load_config(run.module, Path(run.recipe), run.overrides)
        assert config.data.on_corrupt == "skip"
        assert run.stage == "baselines" or config.train.log_every == 10


def test_without_weights_their_arms_are_left_out_with_the_reason(photos: Path, tmp_path: Path) -> None:
    plan = planned(photos, tmp_path / "out")
    assert {cell.levels["training"] for cell in plan.cells} == {"OST", "TST"}
    assert not [run for run in plan.runs if run.stage == "continue"]
    assert "--public none" in plan.study.mapping["report"]["skipped"][0]


def test_rates_are_measured_once(photos: Path, tmp_path: Path, rate: list[str]) -> None:
    first = planned(photos, tmp_path / "out")
    count = len(rate)
    assert count
    second = planned(photos, tmp_path / "out")
    assert len(rate) == count
    assert [run.id for run in first.runs] == [run.id for run in second.runs]
    (tmp_path / "out" / FILE).write_text("rates: [damaged")
    planned(photos, tmp_path / "out")
    assert len(rate) == 2 * count


def test_rates_of_a_busy_machine_are_marked_and_measured_anew_until_runs_have_started(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: list[str]
) -> None:
    load: list[Load | None] = [Load(share=0.6, others=1.9, cores=2, needed=2)]

    def measure_busy(machine: object, model: object, **sizes: int) -> Rate:
        rate.append(f"{model} {sizes}")
        return Rate(RATE, load[0])

    monkeypatch.setattr(measures, "measure_rate", measure_busy)
    out = tmp_path / "out"

    def said(plan: Plan) -> list[str]:
        return [each["reason"] for each in plan.study.mapping["sizing"] if each["value"] == "busy"]

    (reason,) = said(planned(photos, out))
    count = len(rate)
    assert reason.startswith(
        "other programs used 1.9 of 2 cores, of which the study needs 2; the measurement computed in 60% of its time: "
    )
    assert set(yaml.safe_load((out / FILE).read_text())["busy"]) == set(
        yaml.safe_load((out / FILE).read_text())["rates"]
    )
    load[0] = Load(share=0.99, others=0.1, cores=2, needed=2)
    assert not said(planned(photos, out)) and len(rate) == 2 * count  # measured anew, and kept now
    assert not said(planned(photos, out)) and len(rate) == 2 * count
    assert "busy" not in yaml.safe_load((out / FILE).read_text())

    load[0] = Load(share=0.99, others=1.9, cores=2, needed=2)
    out = tmp_path / "started"
    planned(photos, out)
    (out / "study.yaml").write_text("")
    count = len(rate)
    assert said(planned(photos, out)) and len(rate) == count  # its runs follow from them


@pytest.mark.parametrize(
    ("load", "is_busy"),
    [
        (Load(share=0.99, others=0.3, cores=2, needed=2), False),
        (Load(share=0.99, others=1.0, cores=2, needed=2), True),
        (Load(share=0.7, others=0.0, cores=2, needed=2), True),
        (Load(share=0.99, others=30.0, cores=64, needed=16), False),
        (Load(share=0.6, others=0.0, cores=8, needed=8, threads=8), False),  # threads wait for each other
        (Load(share=0.6, others=4.0, cores=8, needed=8, threads=8), True),
    ],
)
def test_a_machine_is_busy_if_the_study_lacks_cores(load: Load, is_busy: bool) -> None:
    assert load.is_busy == is_busy


def test_plan_prints_the_choices_with_their_reasons(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "my_images", f"data.source={photos}", "--budget", "1h", "--public", "none"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "images: 82 for training + 14 for validation + 24 for testing = 120\n" in printed
    assert "training images: 2 classes of 41 to 41 images, 32 px" in printed
    assert "from scratch: model.name" in printed
    assert "left out: public and continued" in printed
    assert " waiting" in "\n" + printed.replace("\n", "\n ")
    assert "e12 MACs per second and device given" in printed


@pytest.fixture
def no_sizing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End each command where it would size the study, on a machine with the programs of Slurm."""

    def size(*arguments: object, jobs: int, **options: object) -> None:
        raise UserError(f"sized for {jobs} runs at a time.")

    monkeypatch.setattr("recipes.study_options.complete_study", size)
    install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_jobs_in_the_queue_of_a_cluster_are_no_slots_of_this_machine(
    photos: Path, tmp_path: Path, no_sizing: None, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "my_images", f"data.source={photos}", "--budget", "30m", "--out", str(tmp_path / "study")]
    assert main([*words, "--engine", "slurm", "--jobs", "5000"]) == 2
    printed = capsys.readouterr()
    assert "sized by the rate of this machine" in printed.out and "5000" not in printed.err
    assert main([*words, "--jobs", "5000"]) == 2
    assert "5000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "0"], "--jobs 0: must be at least 1."),
        (["--detach"], "--detach: is for --engine slurm"),
        (["--engine", "slurm", "--no-prefork"], "--no-prefork: with --engine slurm no run is forked"),
        (["--accelerate-args=--use_fsdp"], "--use_fsdp: no stage can use it"),
        (["--engine", "slurm", "--slurm", "wrong.yaml"], "lines: #SBATCH --nodes=4: --nodes is set by the key nodes."),
        (["--engine", "ray", "--ray", "wrong.yaml"], "lines: unknown key"),
    ],
)
def test_options_of_an_engine_are_checked_before_the_study_is_sized(
    photos: Path,
    tmp_path: Path,
    no_sizing: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    (tmp_path / "wrong.yaml").write_text("lines: ['#SBATCH --nodes=4']")
    words = [str(tmp_path / word) if word == "wrong.yaml" else word for word in words]
    assert main(["run", "my_images", f"data.source={photos}", "--out", str(tmp_path / "study"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "sized for" not in error


def test_a_cluster_that_is_not_there_is_an_error_before_the_study_is_sized(
    photos: Path,
    tmp_path: Path,
    no_sizing: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "ray", None)
    words = ["run", "my_images", f"data.source={photos}", "--out", str(tmp_path / "study")]
    assert main([*words, "--engine", "slurm"]) == 2
    assert "sbatch, squeue, scancel, scontrol not found" in capsys.readouterr().err
    assert main([*words, "--engine", "ray"]) == 2
    assert "the package ray is not installed" in capsys.readouterr().err


def test_what_a_stage_asks_of_a_cluster_is_no_error_where_the_sizing_removes_the_stage(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "slurm.yaml"
    file.write_text("stages: {continue: {nodes: 2}}")
    words = ["plan", "my_images", f"data.source={photos}", "--budget", "1h", "--public", "none"]
    assert main([*words, "--out", str(tmp_path / "out"), "--slurm", str(file)]) == 0
    assert "left out: public and continued" in capsys.readouterr().out
    written = load_study(STUDIES / "my_images.yaml", (f"data.source={photos}",))
    mapping = {**written.mapping, "slurm": {"stages": {"continue": {"nodes": 2}}}}
    options = SizeOptions("1h", "none")
    study = replace(written, mapping=mapping)
    sized, _ = complete_study(
        study, tmp_path / "out", options, jobs=2, cores=2, may_use_gpu=True, print_line=lambda line: None
    )
    assert "continue" not in sized["stages"] and sized["slurm"] == {"stages": {}}


def test_plan_gives_one_account_of_the_images(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was found, what was passed over and why, the parts with their total; the costs are of the same training images."""
    (photos / "cat" / "notes.txt").write_text("a cat")
    (photos / "cat" / ".thumbnail.png").write_bytes(b"")
    assert main(["plan", "my_images", f"data.source={photos}", "--public", "none", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert f"data: passed over in {photos}: 1 hidden files, 1 .txt\n" in printed.out
    assert printed.out.count("data: passed over") == 1 and printed.err == ""
    assert "data: train: 82 of the 120 images of split 'train'\n" in printed.out
    assert "data: test: 24 images, held out from 'train'" in printed.out
    account = "images: 82 for training + 14 for validation + 24 for testing = 120"
    assert printed.out.count(f"{account}\n") == 1 and f"\n{account}, 2 classes; hours: " in printed.out


def test_a_validation_split_of_the_data_is_not_among_the_training_images(photos: Path) -> None:
    """Its images are counted once, as validation images; the cost of an evaluation has them, too."""
    for part, count in (("validation", 5), ("test", 7), ("train", 60)):
        for name in ("cat", "dog"):
            (photos / part / name).mkdir(parents=True)
            for path in sorted((photos / name).iterdir())[:count]:
                path.rename(photos / part / name / path.name)
    for name in ("cat", "dog"):
        (photos / name).rmdir()
    plan = make_plan(load_study(find_study("quickstart"), (f"data.source={photos}", "match=none")), resolve_by_config)
    costs = RunCosts(None)
    run = plan.runs[0]
    size = costs.size(run)
    assert (size.train_images, size.num_validation, size.num_test) == (96, 10, 14)
    assert size.describe() == "images: 96 for training + 10 for validation + 14 for testing = 120"
    assert size.evaluated_by(load_config(run.module, Path(run.recipe), run.overrides)) == 24


def test_warnings_about_the_data_come_before_a_budget_that_is_too_short(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat", "dog"):
        (photos / name).rename(tmp_path / name)
        (photos / name).symlink_to(tmp_path / name)
    (photos / "puss").symlink_to(tmp_path / "cat")
    words = [f"data.source={photos}", "--budget", "1s", "--public", "none", "--out", str(tmp_path / "out")]
    assert main(["plan", "my_images", *words]) == 2
    printed = capsys.readouterr()
    assert "are links to the same folder" in printed.out and "is too short for" in printed.err


def test_hold_outs_are_among_the_choices(photos: Path, tmp_path: Path) -> None:
    def chosen(*words: str) -> dict[str, tuple[str, str]]:
        plan = planned(photos, tmp_path / "out", *words)
        for run in plan.runs:
            fraction = load_config(run.module, Path(run.recipe), run.overrides).data.validation_fraction
            assert fraction == (0.3 if words else 0.15)
        return {each["key"]: (each["value"], each["reason"]) for each in plan.study.mapping["sizing"]}

    value, reason = chosen()["hold-outs: data.validation_fraction"]
    assert value == "0.15" and reason.startswith("14 images, as the data has no validation split: k-NN watches")
    assert chosen()["hold-outs: data.test_fraction"][0] == "0.2"
    value, reason = chosen("data.validation_fraction=0.3")["hold-outs: data.validation_fraction"]
    assert value == "0.3" and reason.startswith("set on the command line: 28 images, as the data has no")
    (photos / "train").mkdir()
    for name in ("cat", "dog"):
        (photos / "validation" / name).mkdir(parents=True)
        for path in sorted((photos / name).iterdir())[:10]:
            path.rename(photos / "validation" / name / path.name)
        (photos / name).rename(photos / "train" / name)
    assert "hold-outs: data.validation_fraction" not in chosen()


def test_the_folder_of_a_study_has_the_name_of_its_images(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sized or not yet: rates and runs are in one folder, and two folders of images do not share it."""
    monkeypatch.chdir(tmp_path)
    assert main(["plan", "my_images", f"data.source={photos}", "--budget", "1h", "--public", "none"]) == 0
    assert f"folder: outputs/my_images_{photos.name}\n" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == [f"my_images_{photos.name}"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["quickstart", "--budget", "2h"], "--budget: study quickstart is not sized"),
        (["my_images", "data.source=missing_folder"], "missing_folder"),
        (["my_images", "--budget", "soon"], "--budget soon: is not a duration"),
        (["my_images", "--budget", "1h"], "data.source: this study is about your images. Add data.source="),
        (["my_images", "match=none", "--budget", "1h"], "match"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *words, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_a_gpu_is_measured_in_a_process_of_its_own() -> None:
    """Its memory and context would be this process's until the last run has ended."""
    with measuring_process() as call:
        assert call(os.getpid) == call(os.getpid) != os.getpid()
        with pytest.raises(UserError, match="--budget soon"):
            call(read_duration, "soon", "--budget")
        with pytest.raises(UserError, match="size: the process that measures the GPU was killed"):
            call(signal.raise_signal, signal.SIGKILL)


@pytest.mark.parametrize("environment", [{}, {"ACCELERATE_USE_CPU": "true"}])
def test_the_device_that_is_measured_is_that_of_the_runs(
    environment: dict[str, str], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: list[str]
) -> None:
    calls: list[str] = []

    @contextmanager
    def process() -> Iterator[Callable[..., Any]]:
        def call(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
            calls.append(function.__name__)
            known = {machine.find_machine: Machine(1, 8, "cuda", "a GPU"), machine.measure_bf16_ratio: 7.5}
            return known[function] if function in known else function(*args, **keywords)

        yield call

    def queried(*arguments: object) -> None:
        raise AssertionError("this process asks for the GPU's properties, which creates a context")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_lazy_init", queried)
    monkeypatch.setattr(complete, "measuring_process", process)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["plan", "my_images", f"data.source={photos}", "--out", str(tmp_path / "out")]) == 0
    content = yaml.safe_load((tmp_path / "out" / FILE).read_text())
    if environment:
        assert not calls and "thread" in content["machine"]
    else:
        assert calls == ["find_machine", "measure_bf16_ratio", *["measure_rate"] * len(rate)]
        assert content["machine"].startswith("a GPU") and content["bf16_ratio"] == 7.5
        calls.clear()
        assert main(["plan", "my_images", f"data.source={photos}", "--out", str(tmp_path / "out")]) == 0
        assert calls == ["find_machine"], "the same command makes the same study"


def test_a_network_that_does_not_fit_the_device_is_one_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure_rate(*arguments: object, **sizes: int) -> Rate:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(measures, "measure_rate", measure_rate)
    assert main(["plan", "my_images", f"data.source={photos}", "--out", str(tmp_path / "out")]) == 2
    assert re.search(
        r"error: size: training vit_\w+ .* needs more memory than .* has free\. Free", capsys.readouterr().err
    )


def test_measured_rates_are_those_of_a_training_step() -> None:
    threads = torch.get_num_threads()
    model = ModelConfig(name="vit_mini", patch_size=8)
    measured = measure_rate(Machine(1, 1, "cpu", "a processor"), model, image_size=32, batch_size=8, channels=3)
    assert 1e7 < measured.macs_per_second < 1e13
    assert measured.load is not None and 0 < measured.load.share <= 1 and measured.load.others >= 0
    assert torch.get_num_threads() == threads
