"""The worst mistakes and sample crops of a study of the digits: pictures of the run's own images, which need them only once."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparison_studies import comparison_study, page_of, write_comparison
from huggingface_hub import constants

from common.config import to_mapping
from common.data.config import DataConfig
from common.data.loading.sampler import EpochSampler
from common.data.open_splits import open_splits
from common.errors import UserError
from common.evaluation.predictions import Predictions, write_predictions
from common.training.config import TrainConfig
from common.yaml_text import dump_yaml
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig
from recipes.reports.comparison import crops, mistakes
from recipes.reports.comparison.arm_predictions import ArmPredictions
from recipes.reports.comparison.mistakes import worst_mistakes
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.picture_files import fit
from recipes.reports.report import write_pages
from recipes.reports.results import StudyRecord
from recipes.reports.run_images import open_run_splits

DIGITS = DataConfig(source="digits", image_size=12)
WRONG = (5, 11, 20)
"""Test images that all runs take for the next class."""


@pytest.fixture(scope="module")
def digits() -> Iterator[object]:
    """Return the splits of the digits."""
    yield open_splits(DIGITS, labeled=True, decodes=False)


@pytest.fixture
def record(digits, tmp_path: Path) -> StudyRecord:  # type: ignore[no-untyped-def]
    """Return a study whose runs have recipes for the digits and predictions for their test images."""
    record = write_comparison(comparison_study(fractions=(0.1, 1.0)), tmp_path, lambda at: 99.0)
    target = digits.test.labels.astype(np.int32)
    predicted = target.copy()
    predicted[list(WRONG)] = (target[list(WRONG)] + 1) % 10
    classes = np.stack([predicted, (predicted + 1) % 10], axis=1).astype(np.int32)
    for run in record.runs.values():
        config = PretrainConfig if run.planned.stage == "pretrain" else FinetuneConfig
        extra = {"crops": {"global_size": 12, "local_size": 8}} if run.planned.stage == "pretrain" else {}
        recipe = config.model_validate(
            {"out": "elsewhere", "model": {"patch_size": 4}, "data": to_mapping(DIGITS), **extra}
        )
        (run.folder / "config.yaml").write_text(dump_yaml(to_mapping(recipe)))
        if run.planned.stage == "finetune":
            predictions = Predictions(
                images=tuple(digits.test.image_ids()), target=target, prediction=predicted, metrics={"top1": "top1"},
                split="test", fingerprint=digits.test.fingerprint, class_names=digits.class_names, classes=classes,
                scores=np.tile(np.array([[0.75, 0.25]], dtype=np.float32), (len(target), 1)),
            )  # fmt: skip
            write_predictions(run.folder / "predictions.parquet", predictions)
    return record


def refuse(*_: object, **__: object) -> object:
    """Stand for data that is gone."""
    raise UserError("data.source 'digits': no such file or folder. Set it.")


def test_mistakes_and_crops_are_pictures_of_the_images_of_the_runs(record: StudyRecord, digits) -> None:  # type: ignore[no-untyped-def]
    page = page_of(record)
    gallery = page.sections.gallery
    assert gallery is not None and gallery.reason == ""
    names = [digits.test.image_ids()[number] for number in WRONG]
    assert sorted(gallery.pictures) == sorted(names)
    first = gallery.mistakes["OST"][0]
    assert (first.wrong, first.seeds, first.confidence) == (3, 3, pytest.approx(75.0))
    assert [(each.stage, len(each.rows), each.reason) for each in page.sections.crops] == [
        ("pretrain", 3, ""),
        ("finetune", 3, ""),
    ]


def test_the_first_crops_are_of_the_first_batch_in_the_order_of_the_run(digits) -> None:  # type: ignore[no-untyped-def]
    config = FinetuneConfig(out="elsewhere", data=DIGITS, train=TrainConfig(batch_size=32, seed=3, epochs=2))
    order = EpochSampler(len(digits.train), 32, 3).order(0)
    rows = crops._supervised_rows(config, digits.train)
    assert [len(row) for row in rows] == [3, 3, 3]  # the image and its views in two epochs
    assert all(
        (row[0] == fit(digits.train.image(int(place)), 96)).all() for row, place in zip(rows, order, strict=False)
    )
    assert not (rows[0][1] == rows[0][2]).all()
    again = crops._supervised_rows(config, digits.train)
    assert all(
        (one == other).all()
        for row, same in zip(rows, again, strict=True)
        for one, other in zip(row, same, strict=True)
    )


@pytest.mark.usefixtures("without_figures")
def test_a_page_has_its_pictures_again_when_the_data_is_gone(
    record: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pages(record)
    texts = [(record.folder / name).read_text() for name in ("report.html", "report.md")]
    uris = re.findall(r'src="(data:image/[^"]+)"', texts[0])
    assert len(uris) == 12 and sum(map(len, uris)) < 100_000
    links = re.findall(r"!\[\]\(([^)]+)\)", texts[1])
    assert len(links) == 12 and all((record.folder / link).exists() for link in links)
    for module in (mistakes, crops):
        monkeypatch.setattr(module, "load_config", refuse)
    write_pages(record)
    assert [(record.folder / name).read_text() for name in ("report.html", "report.md")] == texts


@pytest.mark.usefixtures("without_figures")
def test_without_the_data_a_page_names_the_images_and_why(record: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (mistakes, crops):
        monkeypatch.setattr(module, "open_run_splits", refuse)
    write_pages(record)
    for name in ("report.html", "report.md"):
        text = (record.folder / name).read_text()
        assert text.count("no such file or folder. Set it.") == 3
        assert "No pictures, the images by name instead" in text
        assert "digits test image 5" in text and 'src="data:' not in text
    assert not list((record.folder / "figures").glob("mistake*"))


def test_pictures_are_not_those_of_other_images(record: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    original = mistakes.open_run_splits

    def relabeled(data: DataConfig, *, labeled: bool) -> object:
        splits = original(data, labeled=labeled)
        assert splits.test is not None and splits.test.labels is not None
        return replace(splits, test=replace(splits.test, labels=(splits.test.labels + 1) % 10))

    monkeypatch.setattr(mistakes, "open_run_splits", relabeled)
    gallery = page_of(record).sections.gallery
    assert gallery is not None and gallery.pictures == {}
    assert "not those of the runs any more" in gallery.reason


def test_a_dataset_of_the_hub_is_read_from_the_cache_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    seen = []

    def load_dataset(*_: object, **__: object) -> object:
        seen.append((constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        raise ConnectionError("offline")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    before = constants.HF_HUB_OFFLINE
    with pytest.raises(UserError, match="the Hub dataset owner/name cannot be opened"):
        open_run_splits(DataConfig(source="owner/name"), labeled=True)
    assert seen == [(True, True)] and constants.HF_HUB_OFFLINE is before


def test_mistakes_of_most_seeds_come_by_seeds_then_confidence_then_name(record: StudyRecord) -> None:
    wrong = np.array([[1, 1, 0, 0, 1], [1, 1, 1, 0, 1], [1, 1, 0, 0, 0]], dtype=np.int32)
    arm = ArmPredictions(
        {}, ("0", "1", "2"), ("b", "a", "c", "d", "e"), np.zeros(5, dtype=np.int32), wrong,
        np.array([[0.6, 0.9, 0.1, 1, 0.5]] * 3, dtype=np.float32), ("no", "yes"), "known", next(iter(record.runs.values())),
    )  # fmt: skip
    assert [(each.image, each.wrong) for each in worst_mistakes(arm)] == [("a", 3), ("b", 3), ("e", 2)]
    assert worst_mistakes(replace(arm, confidence=None))[0] == mistakes.Mistake("a", "no", "yes", 3, 3, None)


def test_a_stage_without_a_recipe_has_no_crops(record: StudyRecord) -> None:
    for run in record.runs.values():
        (run.folder / "config.yaml").write_text("train: {epochs: 20}\n")
    page: ComparisonPage = page_of(record)
    assert page.sections.crops == []
    assert page.sections.gallery is not None and "names no data.source" in page.sections.gallery.reason
