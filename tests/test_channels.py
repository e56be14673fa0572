"""Runs of both stages on gray images and on views that are not square."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import Killed, assert_same_run, last_weights, problems_of, read_losses, read_result

from common.command import USER_ERROR
from common.training.loop import Loop
from pretrain.config import PretrainConfig

Stage = Callable[..., int]
GRAY = ("data.channels=1", "data.mean=measured", "data.std=measured")


def test_gray_digits_in_both_stages(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dino, resumed, tst, knn = (tmp_path / name for name in ("dino", "resumed", "tst", "knn"))
    words = (*GRAY, "train.checkpoint_steps=3", "crops.grayscale_prob=0.2")
    assert stage("pretrain", dino, *words) == 0

    assert "crops.grayscale_prob = 0.2: not applied, because they need RGB" in capsys.readouterr().out
    report, reported = Loop.report, []

    def report_or_die(self: Loop, *values: object) -> None:
        report(self, *values)  # type: ignore[arg-type]
        reported.append(self.step)
        if self.step == 5:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Loop, "report", report_or_die)
        stage("pretrain", resumed, *words)
    assert stage("pretrain", resumed, *words) == 0
    assert_same_run(dino, resumed)
    assert last_weights(dino)["dino.student.patch_embed.proj.weight"].shape[1] == 1
    normalization = json.loads((dino / "data.json").read_text())["normalization"]
    assert normalization["images"] == 80 and len(normalization["mean"]) == len(normalization["std"]) == 1
    # the second stage, on fewer images, and an evaluation have the numbers of the first
    assert stage("finetune", tst, *GRAY, f"init={dino}", "data.images_per_class=4", "augment.color_jitter=0.2") == 0
    assert stage("knn", knn, *GRAY, f"init={dino}", "data.images_per_class=4") == 0
    assert "augment.color_jitter = 0.2 changes brightness and contrast alone" in capsys.readouterr().out
    for out in (tst, knn):
        assert read_result(out)["normalization"]["mean"] == normalization["mean"]
    config = json.loads((tst / "export" / "config.json").read_text())
    assert config["pretrained_cfg"]["input_size"] == [1, 12, 12] and config["model_args"]["in_chans"] == 1
    assert config["pretrained_cfg"]["mean"] == normalization["mean"]
    network = timm.create_model(f"local-dir:{tst / 'export'}", pretrained=True).eval()
    assert timm.data.resolve_model_data_config(network)["mean"] == normalization["mean"]
    assert network(torch.zeros(1, 1, 12, 12)).shape == (1, 10)


def test_measured_normalization_is_that_of_the_training_images(stage: Stage, tmp_path: Path) -> None:
    measured, typed = tmp_path / "measured", tmp_path / "typed"
    assert stage("finetune", measured, *GRAY, "train.epochs=1") == 0
    found = read_result(measured)["normalization"]
    assert 0.25 < found["mean"][0] < 0.36 and 0.3 < found["std"][0] < 0.45  # of the digits: 0.305 and 0.376
    numbers = [f"data.{name}={found[name][0]}" for name in ("mean", "std")]  # a number stands for all channels
    assert stage("finetune", typed, "data.channels=1", *numbers, "train.epochs=1") == 0
    assert read_losses(measured) == read_losses(typed)


def test_dino_on_views_that_are_not_square(stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("data.image_size=[16,8]", "crops.global_size=[16,8]", "crops.local_size=[8,4]", "model.patch_size=4")
    assert stage("pretrain", tmp_path / "dino", *sizes, "train.epochs=1") == 0
    assert "crops.ratio = [1, 1] has no crop of the shape of crops.global_size" in capsys.readouterr().out
    weights = last_weights(tmp_path / "dino")
    assert weights["dino.teacher.pos_embed"].shape[1] == 1 + 4 * 2
    assert "knn_top1" in read_result(tmp_path / "dino")["metrics"]
    words = (f"init={tmp_path / 'dino'}", "data.image_size=[8,16]", "model.patch_size=4", "train.epochs=1")
    assert stage("finetune", tmp_path / "tst", *words) == 0
    assert "position embedding resized from 4x2 to 2x4 patches" in capsys.readouterr().out


def test_dino_on_global_views_smaller_than_the_images(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    views = ("crops.global_size=8", "crops.num_local=0", "dino.head_batch_norm=true", "train.micro_batch_size=16")
    words = ("data.image_size=16", "model.patch_size=4", "train.epochs=1", *views)
    assert stage("pretrain", tmp_path / "dino", *words) == 0
    assert "the network contains batch norm, which normalizes over the 16 images" in capsys.readouterr().out
    assert last_weights(tmp_path / "dino")["dino.teacher.pos_embed"].shape[1] == 1 + 4 * 4
    images = ("data.image_size=16", "model.patch_size=4", "train.epochs=1")
    assert stage("finetune", tmp_path / "tst", f"init={tmp_path / 'dino'}", *images) == 0
    assert "position embedding resized" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("sections", "key", "message"),
    [
        ({"data": {"channels": 1}}, "data.mean", "has 3 values, but data.channels is 1; set one for each channel"),
        ({"data": {"mean": [0.1] * 4, "std": [1.0] * 4}}, "data.std", "has 4 values, but data.channels is 3"),
        ({"data": {"mean": "measured"}}, "data.mean", "mean and std are measured together"),
        ({"data": {"channels": 0}}, "data.channels", "is not a number of channels"),
        ({"data": {"value_range": [5, 5]}}, "data.value_range", "set [low, high] with low < high"),
        (
            {"data": {"image_size": [32, 16]}, "crops": {"global_size": [16, 32]}},
            "crops.global_size",
            "[16, 32] is larger than data.image_size = [32, 16]",
        ),
        (
            {
                "data": {"image_size": [32, 18]},
                "crops": {"global_size": [32, 18], "local_size": [8, 8]},
                "model": {"name": "vit_mini", "patch_size": 4},
            },
            "crops.global_size",
            "[32, 18] is not a multiple of model.patch_size = 4. Try [32, 16].",
        ),
    ],
)
def test_keys_that_contradict_each_other(sections: dict[str, object], key: str, message: str) -> None:
    assert message in problems_of(PretrainConfig, out="runs/x", **sections)[key]


@pytest.mark.parametrize("words", [("data.channels=4",), ("data.channels=3", "data.bit_depth=16")])
def test_policy_on_images_that_it_does_not_work_on_is_refused(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    policy = "augment.auto_augment=rand-m9-mstd0.5-inc1"
    measured = ("data.mean=measured", "data.std=measured")
    assert stage("finetune", tmp_path / "run", *words, *measured, policy) == USER_ERROR
    assert "augment.auto_augment: 'rand-m9-mstd0.5-inc1': policies work on gray and RGB" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_token_labels_of_gray_images_are_those_of_a_gray_teacher(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volo = ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv", "train.epochs=1")
    teacher = tmp_path / "teacher"
    assert stage("finetune", teacher, *GRAY, *volo) == 0
    found = read_result(teacher)["normalization"]
    numbers = [f"data.{name}={found[name]}" for name in ("mean", "std")]
    checkpoint = sorted((teacher / "checkpoints").glob("step-*"))[-1]
    assert stage("token_labels", tmp_path / "labels", f"init={checkpoint}", "data.channels=1", *numbers) == 0
    assert stage("token_labels", tmp_path / "rgb", f"init={teacher}") == USER_ERROR
    assert f"was trained with {found['mean']}. Set it to that value" in capsys.readouterr().err
    measured = ("data.mean=measured", "data.std=measured")
    assert stage("token_labels", tmp_path / "measured", f"init={teacher}", *measured) == USER_ERROR
    assert "data.mean: measured: token labels need the numbers of the teacher" in capsys.readouterr().err


def test_digits_of_four_channels_are_refused(stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("data.channels=4", "data.mean=measured", "data.std=measured")
    assert stage("pretrain", tmp_path / "run", *words) == USER_ERROR
    error = capsys.readouterr().err
    assert "data.source 'digits': the image has 1 channel, but data.channels is 4. Set data.channels=1" in error


def test_cost_counts_the_channels_and_both_sides_of_the_views() -> None:
    from pretrain.cost import dino_complexity

    def complexity(**sections: object):
        model = {"name": "vit_mini", "patch_size": 4}
        return dino_complexity(PretrainConfig.model_validate({"out": "runs/x", "model": model, **sections}))

    square = complexity(data={"image_size": 16}, crops={"global_size": 16, "local_size": 8})
    oblong = complexity(data={"image_size": [32, 8]}, crops={"global_size": [32, 8], "local_size": [4, 16]})
    assert oblong.global_view.macs == square.global_view.macs  # as many patches
    assert oblong.local_view == square.local_view
    gray = complexity(
        data={"image_size": 16, "channels": 1, "mean": [0.5], "std": [0.5]},
        crops={"global_size": 16, "local_size": 8},
    )
    assert square.global_view.parameters - gray.global_view.parameters == 2 * 4 * 4 * 64
    assert square.global_view.macs - gray.global_view.macs == 2 * 16 * 16 * 64
    assert np.isfinite(gray.head_macs)


def write_bands(root: Path, *, classes: int = 2, images: int = 24, channels: int = 4) -> Path:
    """Write images of 12 bits in 16, of which the class changes the ratio of the channels by less than a level of 8 bits."""
    rng = np.random.default_rng(0)
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
        for number in range(images):
            bands = rng.integers(0, 200, (10, 12, channels)) + 1000
            bands[..., label] += 120
            np.save(root / f"class{label}" / f"{number:02d}.npy", bands.astype(np.uint16))
    return root


BANDS = (
    "data.channels=4", "data.bit_depth=16", "data.mean=measured", "data.std=measured", "data.images_per_class=none",
    "data.image_size=8", "model.patch_size=4", "train.batch_size=10",
)  # fmt: skip


def test_four_channels_of_sixteen_bits_in_both_stages(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_bands(tmp_path / "bands")
    dino, tst, resumed = tmp_path / "dino", tmp_path / "tst", tmp_path / "resumed"
    words = (*BANDS, f"data.source={source}")
    views = ("crops.global_size=8", "crops.local_size=4", "crops.blur_prob=[1,1,1]", "crops.solarize_prob=[0,1,0]")
    assert stage("pretrain", dino, *words, *views) == 0
    normalization = read_result(dino)["normalization"]
    assert len(normalization["mean"]) == 4
    assert normalization["mean"][0] == pytest.approx(
        (1100 + 60) / 65535, rel=0.01
    )  # one class of two is brighter by 120
    words = (
        *words,
        f"init={dino}",
        "train.epochs=8",
        "optim.lr=3e-3",
        "augment.padding=1",
        "augment.random_erasing_prob=0.5",
    )
    assert stage("finetune", tst, *words) == 0
    assert read_result(tst)["metrics"]["test_top1"] == 100  # in 8 bits, the classes are two or three levels apart
    config = json.loads((tst / "export" / "config.json").read_text())
    assert config["pretrained_cfg"]["input_size"] == [4, 8, 8]
    assert config["evaluation"]["images"] == {"channels": 4, "bit_depth": 16, "value_range": None, "pages": "first"}
    report = Loop.report

    def report_or_die(self: Loop, *values: object) -> None:
        report(self, *values)  # type: ignore[arg-type]
        if self.step == 10:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Loop, "report", report_or_die)
        stage("finetune", resumed, *words, "train.checkpoint_steps=4")
    assert stage("finetune", resumed, *words, "train.checkpoint_steps=4") == 0
    assert_same_run(tst, resumed)


def test_images_of_other_numbers_of_channels_are_named(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_bands(tmp_path / "bands", images=6)
    np.save(source / "class0" / "03.npy", np.zeros((10, 12, 3), np.uint16))
    assert stage("finetune", tmp_path / "run", *BANDS, f"data.source={source}") == USER_ERROR
    error = capsys.readouterr().err
    assert "data.source: 1 of the 12 decoded images (of 12) are corrupt:" in error
    assert "class0/03.npy: the image has 3 channels, but data.channels is 4. Set data.channels=3 if all" in error
    numbers = ("data.channels=3", "data.bit_depth=16", "data.mean=measured", "data.std=measured")
    assert stage("finetune", tmp_path / "run", *BANDS, f"data.source={source}", *numbers) == USER_ERROR
    error = capsys.readouterr().err
    assert "11 of the 12 decoded images" in error
    assert "the image has 4 channels, but data.channels is 3. Set data.channels=4 if all images have as many" in error
