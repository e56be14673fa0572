"""Tests that the reference implementations match ours, and that every loop of the benchmarks runs."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from timm.data.auto_augment import RandAugment
from torch import nn

from benchmarks import finetune, lightly_dino, loop, reference_deit, reference_dino, reference_parts
from benchmarks.isolated import StepTimer, time_steps
from benchmarks.reference_views import ReferenceViews, reference_transform
from benchmarks.synthetic_images import SyntheticImages
from common import config as recipes
from common.data.augment.multi_crop import CropsConfig
from common.training.optimizers import clip_gradients
from common.training.sam import SharpnessAware
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig
from pretrain.loss import DINOLoss

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = {"model": "vit_mini", "batch": 4, "workers": 0, "warmup_steps": 1, "steps": 1, "side": 16, "device": DEVICE}
DINO = reference_dino.DinoSetting(**SMALL, global_size=16, local_size=8, num_local=2, out_dim=32)
SUPERVISED = reference_deit.SupervisedSetting(**SMALL, image_size=16)
SHORT = ("reference", "reference, bf16", "ours, fp32", "ours, fp32, class token only")
PRETRAINING = {name: run for name, run in loop.VARIANTS.items() if name in SHORT}
SUPERVISED_LOOPS = {name: run for name, run in finetune.VARIANTS.items() if name in SHORT}


@pytest.mark.parametrize("num_local", [0, 2])
@pytest.mark.parametrize("run", PRETRAINING.values(), ids=PRETRAINING)
def test_pretraining_loops_run(run: Callable[[reference_dino.DinoSetting, StepTimer], None], num_local: int) -> None:
    assert time_steps(run, replace(DINO, num_local=num_local))["seconds_per_step"] > 0


def test_lightlys_loop_runs() -> None:
    pytest.importorskip("lightly")
    assert time_steps(lightly_dino.train, replace(DINO, device="cpu"))["seconds_per_step"] > 0


@pytest.mark.parametrize("sam", [False, True], ids=["adamw", "sam"])
@pytest.mark.parametrize("run", SUPERVISED_LOOPS.values(), ids=SUPERVISED_LOOPS)
def test_supervised_loops_run(run: Callable[[reference_deit.SupervisedSetting, StepTimer], None], sam: bool) -> None:
    setting = reference_deit.SupervisedSetting(**SMALL, image_size=16, sam=sam)
    assert time_steps(run, setting)["seconds_per_step"] > 0


@pytest.mark.parametrize("setting", [reference_dino.DinoSetting(), loop.PHOTOGRAPHS], ids=["pixels", "photographs"])
def test_our_pretraining_has_the_views_and_the_network_of_the_reference(setting: reference_dino.DinoSetting) -> None:
    config = recipes.build(PretrainConfig, loop.recipe(setting, precision="bf16"), source="test")
    assert config.crops == setting.crops
    reference = reference_dino.MultiCrop(setting, 0.0)
    assert sum(p.numel() for p in reference.parameters()) == _parameters(config)


def test_the_default_crops_are_the_papers() -> None:
    crops, jitter = CropsConfig(), ("brightness", "contrast", "saturation", "hue")
    assert (crops.num_global, crops.global_size, crops.global_scale) == (2, 224, (0.4, 1.0))
    assert (crops.num_local, crops.local_size, crops.local_scale) == (8, 96, (0.05, 0.4))
    assert (crops.hflip_prob, crops.color_jitter_prob, crops.grayscale_prob) == (0.5, 0.8, 0.2)
    assert tuple(getattr(crops, name) for name in jitter) == (0.4, 0.4, 0.2, 0.1)
    assert (crops.blur_prob, crops.blur_sigma, crops.solarize_prob) == ((1.0, 0.1, 0.5), (0.1, 2.0), (0.0, 0.2, 0.0))


def test_the_reference_views_have_the_recipes_order_and_sizes() -> None:
    config = CropsConfig(num_global=3, global_size=16, num_local=2, local_size=8)
    views = ReferenceViews(config)(SyntheticImages(1, side=24, num_classes=1).image(0))
    assert [view.shape for view in views] == [(3, 16, 16)] * 3 + [(3, 8, 8)] * 2


def _parameters(config: PretrainConfig) -> int:
    from pretrain.build import build_dino

    dino = build_dino(config)
    return sum(p.numel() for p in (*dino.student.parameters(), *dino.student_head.parameters()))


def test_our_supervised_network_matches_the_reference() -> None:
    from finetune.build import build_classifier

    config = recipes.build(FinetuneConfig, finetune.recipe(SUPERVISED, precision="fp32"), source="test")
    reference = reference_parts.reference_network("vit_mini", image_size=16, patch=4, drop_path=0.1, num_classes=10)
    ours = build_classifier(config, num_classes=10)
    assert sum(p.numel() for p in reference.parameters()) == sum(p.numel() for p in ours.parameters())


def test_our_loss_matches_the_reference() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, 16), torch.randn(2, 3, 16)
    reference, ours = reference_dino.ReferenceLoss(16, num_views=4), DINOLoss(16)
    for _ in range(2):  # the second time with an updated center
        expected = reference(student.flatten(0, 1), teacher.flatten(0, 1))
        actual = ours(student, torch.eye(16), ours.teacher_targets(teacher, torch.tensor(0.04))).loss
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(ours.center, reference.center[0])


def copy_with_gradients(network: nn.Module) -> nn.Module:
    """Return a copy of a network with copies of its gradients."""
    copied = copy.deepcopy(network)
    for parameter, original in zip(copied.parameters(), network.parameters(), strict=True):
        parameter.grad = original.grad.clone()
    return copied


def test_our_clipping_matches_the_reference() -> None:
    torch.manual_seed(0)
    reference = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    (reference(torch.randn(8, 4)) * 5).pow(2).sum().backward()
    reference[1].bias.grad.mul_(1e-4)
    ours = copy_with_gradients(reference)
    reference_parts.clip_per_parameter(reference.parameters(), 3.0)
    clip_gradients(ours.parameters(), 3.0, per_parameter=True)
    for parameter, expected in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, expected.grad)


def test_our_sam_perturbation_matches_the_reference_which_is_reversible() -> None:
    torch.manual_seed(0)
    reference = nn.Linear(4, 2)
    reference(torch.randn(8, 4)).pow(2).sum().backward()
    ours, start = copy_with_gradients(reference), copy.deepcopy(reference.state_dict())
    before = reference_deit.perturb(reference)
    with SharpnessAware(ours.parameters(), reference_deit.RHO).perturbed():
        torch.testing.assert_close(ours.state_dict(), reference.state_dict())
    reference_deit.restore(reference, before)
    torch.testing.assert_close(reference.state_dict(), start, rtol=0, atol=0)


@pytest.mark.parametrize("side", [16, None], ids=["pixels", "photographs"])
def test_synthetic_images_are_the_same_as_pil_images_and_as_a_split(side: int | None) -> None:
    import numpy as np

    images = SyntheticImages(3, side=side, num_classes=2)
    split = images.splits().train
    expected = np.array(images.image(2))
    assert len(split) == 3
    assert list(split.labels) == [0, 1, 0]
    assert np.abs(split.image(2).astype(int) - expected.astype(int)).max() <= 3  # two JPEG decoders round differently


def test_the_reference_policy_supports_posterize_to_0_bits() -> None:
    [policy] = [step for step in reference_transform(32).transforms if isinstance(step, RandAugment)]
    [posterize] = [step for step in policy.ops if step.name.startswith("Posterize")]
    image = SyntheticImages(1, side=32, num_classes=1).image(0)
    assert posterize.aug_fn(image, 0).getextrema() == ((0, 0),) * 3
    assert posterize.aug_fn(image, 4).getextrema() != ((0, 0),) * 3
