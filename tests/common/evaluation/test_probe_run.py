"""The probe as a stage: its k-NN is that of a k-NN evaluation, its pixels are the images, its choices take few labels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RECIPES, read_result
from torch import Tensor

from common.config import load
from common.data.augment.supervised import EvaluationTransform
from common.data.loading.loader import normalize
from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.data.splits.subset import draw_subset
from common.evaluation import probe_run
from common.evaluation.classification import CLASS_AVERAGES
from common.evaluation.config import ProbeConfig
from common.evaluation.predictions import per_image, read_predictions
from common.evaluation.probe import choose_probe
from common.evaluation.probe_run import build_features, choice_images

Stage = Callable[..., int]
PIXELS = "features=pixels"


def config_of(*overrides: str) -> ProbeConfig:
    return load(ProbeConfig, RECIPES / "digits" / "probe.yaml", overrides)


def flattened(split: Split, config: ProbeConfig) -> Tensor:
    """Return the normalized images (N, 3 * H * W) of a split."""
    images = [split.image(index) for index in range(len(split))]
    views = EvaluationTransform(config.data.image_size, config.crop_pct)(images, []).blocks[0][0]
    return normalize(views, config.data.mean, config.data.std).flatten(1)


def test_k_nn_is_that_of_a_k_nn_evaluation(stage: Stage, tmp_path: Path) -> None:
    words = ("knn.ks=[5,200]", "knn.temperature=0.1", "train.seed=3")
    assert stage("knn", tmp_path / "knn", *words) == 0
    assert stage("probe", tmp_path / "probe", *words) == 0
    wanted = {name: each for name, each in read_result(tmp_path / "knn")["metrics"].items() if "rank" not in name}
    found = read_result(tmp_path / "probe")["metrics"]
    assert {"knn_top1", "test_knn_top1", "knn200_top1"} <= wanted.keys()
    assert {name: found[name] for name in wanted} == wanted
    assert found.keys() - wanted.keys() == {
        "probe_l2",
        *(f"{split}_probe_{name}" for split in ("validation", "test") for name in ("top1", "top5", *CLASS_AVERAGES)),
    }


def test_pixels_are_the_normalized_images_flattened(stage: Stage, tmp_path: Path) -> None:
    assert stage("probe", tmp_path / "run", PIXELS, "l2=[0.1]", "crop_pct=0.8") == 0
    config = load(ProbeConfig, tmp_path / "run" / "config.yaml")
    splits = open_splits(config.data, labeled=True)
    train, test = flattened(splits.train, config), flattened(splits.test, config)
    images = torch.randn(2, 3, 12, 12)
    assert torch.equal(build_features(config)(images), images.reshape(2, 432))
    found = choose_probe(train, torch.as_tensor(splits.train.labels), l2=(0.1,), num_classes=10, validation=None)
    right = found.logits(test).argmax(1) == torch.as_tensor(splits.test.labels)
    result = read_result(tmp_path / "run")
    assert result["metrics"]["test_probe_top1"] == pytest.approx(100 * float(right.float().mean()))
    assert result["metrics"]["test_probe_top1"] > 70
    assert result["parameters"] == 0 and result["images"] == 80 + 287 + 359


def test_pixels_do_not_depend_on_the_network(stage: Stage, tmp_path: Path) -> None:
    for name, words in {"a": (), "b": ("model.stem=conv", "train.seed=5")}.items():
        assert stage("probe", tmp_path / name, PIXELS, *words) == 0
    assert read_result(tmp_path / "a")["metrics"] == read_result(tmp_path / "b")["metrics"]


def test_weights_and_seed_select_the_network(stage: Stage, tmp_path: Path) -> None:
    words = ("knn.ks=[5]", "train.seed=3")
    assert stage("pretrain", tmp_path / "dino", *words, "train.epochs=1") == 0
    assert stage("probe", tmp_path / "trained", *words, f"init={tmp_path / 'dino'}") == 0
    assert stage("probe", tmp_path / "untrained", *words) == 0
    assert stage("probe", tmp_path / "other", "knn.ks=[5]") == 0
    trained, untrained, other = (read_result(tmp_path / name)["metrics"] for name in ("trained", "untrained", "other"))
    pretrained = read_result(tmp_path / "dino")["metrics"]
    assert (trained["knn_top1"], untrained["knn_top1"]) == (pretrained["knn_top1"], pretrained["knn_top1_untrained"])
    assert trained["test_probe_top1"] != untrained["test_probe_top1"] != other["test_probe_top1"]


def test_the_strength_is_chosen_on_the_share_of_the_labels(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def recording_choose(*data: Tensor, **named: object) -> object:
        given.append(named["validation"])
        return choose_probe(*data, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(probe_run, "choose_probe", recording_choose)
    assert stage("probe", tmp_path / "run", PIXELS, "data.images_per_class=none", "data.fraction=0.1") == 0
    config = load(ProbeConfig, tmp_path / "run" / "config.yaml")
    splits = open_splits(config.data, labeled=True)
    chosen = choice_images(splits, config.data)
    ((features, labels),) = given
    assert torch.allclose(features, flattened(splits.validation.select(chosen), config))
    assert labels.tolist() == splits.validation.labels[chosen].tolist()
    result = read_result(tmp_path / "run")
    assert result["choice_images"] == len(chosen) < 40 and result["splits"]["validation"] == 287


def test_the_share_of_validation_images_is_nested_and_drawn_like_the_training_images() -> None:
    configs = {fraction: config_of(f"data.fraction={fraction}", "data.subset_seed=4") for fraction in (0.1, 0.5, 1.0)}
    splits = open_splits(configs[1.0].data, labeled=True)
    shares = {fraction: choice_images(splits, config.data) for fraction, config in configs.items()}
    assert set(shares[0.1]) < set(shares[0.5]) < set(shares[1.0]) == set(range(287))
    wanted = draw_subset(splits.validation.labels, fraction=0.5, seed=4).indices
    assert shares[0.5].tolist() == wanted.tolist()


def test_a_small_share_keeps_an_image_of_each_class() -> None:
    config = config_of("data.fraction=0.01", "data.validation_fraction=0.1")
    splits = open_splits(config.data, labeled=True)
    assert np.bincount(splits.validation.labels[choice_images(splits, config.data)]).tolist() == [1] * 10


def test_images_per_class_limits_the_choice_too() -> None:
    config = config_of("data.images_per_class=3")
    splits = open_splits(config.data, labeled=True)
    assert np.bincount(splits.validation.labels[choice_images(splits, config.data)]).tolist() == [3] * 10


def test_without_validation_images_the_middle_strength_is_taken(stage: Stage, tmp_path: Path) -> None:
    assert stage("probe", tmp_path / "run", PIXELS, "data.validation_fraction=0", "l2=[1,0.01,0.1]") == 0
    result = read_result(tmp_path / "run")
    assert result["metrics"]["probe_l2"] == 0.1 and result["choice_images"] == 0
    assert not [name for name in result["metrics"] if name.startswith(("validation", "knn"))]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([PIXELS, "init=runs/x"], ["init: runs/x", "init=none", "features=network"]),
        (["features=tokens"], ["features", "pixels"]),
        (["l2=[]"], ["l2: [] must contain at least one number"]),
        (["l2=[0.1,0]"], ["l2", "between 1e-9 and 1e9"]),
        (["knn.ks=[]"], ["knn.ks"]),
        (["knn.bank_images=3"], ["knn.bank_images: unknown key"]),
        (["crop_pct=0"], ["crop_pct"]),
        (["model.drop_path=0.3"], ["model.drop_path: 0.3", "nothing is trained"]),
    ],
)
def test_an_invalid_key_or_value_is_reported(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: list[str]
) -> None:
    assert stage("probe", tmp_path / "run", *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and all(word in error for word in words)
    assert not (tmp_path / "run").exists()


def test_too_many_images_are_refused_before_their_features_are_computed(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = f"max_products={80 * 432 * 10 - 1}"
    monkeypatch.setattr(probe_run, "predict_roles", lambda *_, **__: pytest.fail("features were computed"))
    assert stage("probe", tmp_path / "run", PIXELS, limit) == 2
    assert "common.evaluation linear" in capsys.readouterr().err
    assert stage("probe", tmp_path / "run", PIXELS, limit, "--dry-run") == 2
    assert stage("probe", tmp_path / "run", PIXELS, limit, "beyond=knn", "--dry-run") == 0
    assert "too many (max_products = 345599)" in capsys.readouterr().out


def test_a_dry_run_of_pixels_counts_no_network(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("probe", tmp_path / "run", PIXELS, "--dry-run") == 0
    output = capsys.readouterr().out
    assert "none: the pixels are classified" in output and "432 features to 10 classes" in output
    assert "0.000 TMACs in total" in output


def test_beyond_the_limit_there_is_k_nn_alone_where_the_recipe_asks_for_it(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    assert stage("probe", both) == 0
    assert stage("probe", alone, "max_products=1000", "beyond=knn") == 0
    assert "no logistic regression: 80 images times 64 features times 10 classes" in "".join(capsys.readouterr())
    result, expected = read_result(alone), read_result(both)
    assert not [name for name in result["metrics"] if "probe" in name]
    assert result["metrics"] == {name: value for name, value in expected["metrics"].items() if "probe" not in name}
    assert (
        result["reason"].endswith("no logistic regression, too many images, features and classes")
        and result["choice_images"] == 0
    )
    found = per_image(read_predictions(alone / "predictions.parquet"), "test_knn_top1")
    assert float(np.mean(found)) == pytest.approx(result["metrics"]["test_knn_top1"])
