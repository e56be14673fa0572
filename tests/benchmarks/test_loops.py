"""The plain references hold what ours are tested against, and every loop of the benchmarks runs."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from timm.data.auto_augment import RandAugment
from torch import nn

from benchmarks import finetune, lightly_dino, loop, plain_deit, plain_dino, plain_parts
from benchmarks.isolated import StepWatch, time_steps
from benchmarks.pictures import Pictures
from benchmarks.plain_views import PlainViews, plain_supervised
from common import config as recipes
from common.data.augment.multi_crop import ViewsConfig
from common.training.optimizers import clip_gradients
from common.training.sam import SharpnessAware
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig
from pretrain.loss import DINOLoss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = {"model": "vit_mini", "batch": 4, "workers": 0, "warm_up": 1, "steps": 1, "side": 16, "device": DEVICE}
DINO = plain_dino.DinoSetting(**SMALL, global_size=16, local_size=8, local_count=2, outputs=32)
SUPERVISED = plain_deit.SupervisedSetting(**SMALL, image_size=16)
PRETRAINING = {name: run for name, run in loop.VARIANTS.items() if name in ("plain", "ours, fp32")}
SUPERVISED_LOOPS = {name: run for name, run in finetune.VARIANTS.items() if name in ("plain", "ours, fp32")}


@pytest.mark.parametrize("local_count", [0, 2])
@pytest.mark.parametrize("run", PRETRAINING.values(), ids=PRETRAINING)
def test_pretraining_loops_run(run: Callable[[plain_dino.DinoSetting, StepWatch], None], local_count: int) -> None:
    assert time_steps(run, replace(DINO, local_count=local_count))["seconds_per_step"] > 0


def test_lightlys_loop_runs() -> None:
    pytest.importorskip("lightly")
    assert time_steps(lightly_dino.train, replace(DINO, device="cpu"))["seconds_per_step"] > 0


@pytest.mark.parametrize("sam", [False, True], ids=["adamw", "sam"])
@pytest.mark.parametrize("run", SUPERVISED_LOOPS.values(), ids=SUPERVISED_LOOPS)
def test_supervised_loops_run(run: Callable[[plain_deit.SupervisedSetting, StepWatch], None], sam: bool) -> None:
    setting = plain_deit.SupervisedSetting(**SMALL, image_size=16, sam=sam)
    assert time_steps(run, setting)["seconds_per_step"] > 0


@pytest.mark.parametrize("setting", [plain_dino.DinoSetting(), loop.PHOTOGRAPHS], ids=["pixels", "photographs"])
def test_our_pretraining_sees_the_views_and_the_network_of_the_plain_one(setting: plain_dino.DinoSetting) -> None:
    config = recipes.build(PretrainConfig, loop.recipe(setting, precision="bf16"), source="test")
    assert config.views == setting.views
    plain = plain_dino.MultiCrop(setting, 0.0)
    assert sum(p.numel() for p in plain.parameters()) == _parameters(config)


def test_both_see_the_views_of_the_paper() -> None:
    views, jitter = ViewsConfig(), ("brightness", "contrast", "saturation", "hue")
    assert (views.global_count, views.global_size, views.global_scale) == (2, 224, (0.4, 1.0))
    assert (views.local_count, views.local_size, views.local_scale) == (8, 96, (0.05, 0.4))
    assert (views.flip, views.jitter_probability, views.grey) == (0.5, 0.8, 0.2)
    assert tuple(getattr(views, name) for name in jitter) == (0.4, 0.4, 0.2, 0.1)
    assert (views.blur, views.blur_sigma, views.solarize) == ((1.0, 0.1, 0.5), (0.1, 2.0), (0.0, 0.2, 0.0))


def test_the_plain_views_come_in_the_recipes_order_and_sizes() -> None:
    config = ViewsConfig(global_count=3, global_size=16, local_count=2, local_size=8)
    views = PlainViews(config)(Pictures(1, side=24, num_classes=1).picture(0))
    assert [view.shape for view in views] == [(3, 16, 16)] * 3 + [(3, 8, 8)] * 2


def _parameters(config: PretrainConfig) -> int:
    from pretrain.build import build_dino

    dino = build_dino(config)
    return sum(p.numel() for p in (*dino.student.parameters(), *dino.student_head.parameters()))


def test_our_supervised_network_is_the_plain_one() -> None:
    from finetune.build import build_classifier

    config = recipes.build(FinetuneConfig, finetune.recipe(SUPERVISED, precision="fp32"), source="test")
    plain = plain_parts.plain_network("vit_mini", image_size=16, patch=4, drop_path=0.1, num_classes=10)
    ours = build_classifier(config, num_classes=10)
    assert sum(p.numel() for p in plain.parameters()) == sum(p.numel() for p in ours.parameters())


def test_the_plain_loss_is_ours() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, 16), torch.randn(2, 3, 16)
    plain, ours = plain_dino.PlainLoss(16, num_views=4), DINOLoss(16)
    for _ in range(2):  # the second time with a centre that has moved
        expected = plain(student.flatten(0, 1), teacher.flatten(0, 1))
        found = ours(student, torch.eye(16), ours.codes(teacher, torch.tensor(0.04))).loss
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.center, plain.center[0])


def test_the_plain_clipping_is_ours() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    (plain(torch.randn(8, 4)) * 5).pow(2).sum().backward()
    plain[1].bias.grad.mul_(1e-4)
    ours = copy.deepcopy(plain)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        mine.grad = theirs.grad.clone()
    plain_parts.clip_each(plain.parameters(), 3.0)
    clip_gradients(ours.parameters(), 3.0, each=True)
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_the_plain_climb_of_sam_is_ours_and_comes_back() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(4, 2)
    plain(torch.randn(8, 4)).pow(2).sum().backward()
    ours, start = copy.deepcopy(plain), copy.deepcopy(plain.state_dict())
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        mine.grad = theirs.grad.clone()
    before = plain_deit.climb(plain)
    with SharpnessAware(ours.parameters(), plain_deit.RHO).climbed():
        torch.testing.assert_close(ours.state_dict(), plain.state_dict())
    plain_deit.descend(plain, before)
    torch.testing.assert_close(plain.state_dict(), start, rtol=0, atol=0)


@pytest.mark.parametrize("side", [16, None], ids=["pixels", "photographs"])
def test_pictures_are_the_same_as_pil_and_as_a_split(side: int | None) -> None:
    import numpy as np

    pictures = Pictures(3, side=side, num_classes=2)
    split = pictures.splits().train
    shown = torch.from_numpy(np.array(pictures.picture(2))).permute(2, 0, 1)
    assert len(split) == 3
    assert list(split.labels) == [0, 1, 0]
    assert (split.image(2).int() - shown.int()).abs().max() <= 3  # two JPEG decoders round differently


def test_the_plain_policy_takes_a_strength_that_leaves_no_bits() -> None:
    [policy] = [step for step in plain_supervised(32).transforms if isinstance(step, RandAugment)]
    [posterize] = [step for step in policy.ops if step.name.startswith("Posterize")]
    picture = Pictures(1, side=32, num_classes=1).picture(0)
    assert posterize.aug_fn(picture, 0).getextrema() == ((0, 0),) * 3
    assert posterize.aug_fn(picture, 4).getextrema() != ((0, 0),) * 3
