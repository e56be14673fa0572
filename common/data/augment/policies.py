"""Owns timm's augmentation policies (RandAugment, AutoAugment): their names, their set-up and their randomness.

timm chooses the steps and draws their strengths; `policy_ops` executes them. They draw from the global states of
`random` and `numpy.random`; `run_policy` sets these from a seed.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from PIL import Image

from common.data.augment.policy_ops import OPERATIONS, through_pillow

Policy = Callable[[Any], Any]
"""Turns an (H, W, 3) uint8 array into another."""

_GRAMMAR = re.compile(
    r"rand(-(m\d+|n\d+|p(0?\.\d+|0|1)|mstd\d+(\.\d+)?|mmax\d+|inc[01]|t(weights|3aw?)))*"
    r"|(original|originalr|v0|v0r|3a)(-mstd\d+(\.\d+)?)?"
)


def is_policy(name: str) -> bool:
    """Tell whether `name` is a policy in timm's notation, with no part that timm would pass over or fail at."""
    return _GRAMMAR.fullmatch(name) is not None


def build_policy(name: str, image_size: int, mean: Sequence[float]) -> Policy:
    """Return timm's RandAugment or AutoAugment, set up as by timm's own training transform with bicubic sampling.

    It draws as timm's does, number by number, but takes and returns arrays: `policy_ops` executes its steps.
    """
    from timm.data.auto_augment import auto_augment_transform, rand_augment_transform

    settings = {
        "translate_const": int(image_size * 0.45),
        "img_mean": tuple(min(255, round(255 * value)) for value in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    build = rand_augment_transform if name.startswith("rand") else auto_augment_transform
    policy = build(name, settings)
    steps = policy.ops if name.startswith("rand") else [step for pair in policy.policy for step in pair]
    for step in steps:
        step.aug_fn = OPERATIONS[step.name] if step.name in OPERATIONS else through_pillow(step.aug_fn)
    return cast(Policy, policy)


@contextmanager
def global_states_kept() -> Iterator[None]:
    """Put the global states of `random` and `numpy.random` back at the end."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def run_policy(policy: Policy, crop: Any, seed: int) -> Any:
    """Return the (S, S, 3) crop as a policy leaves it whose draws come from `seed`."""
    random.seed(seed)
    np.random.seed(seed)
    return policy(crop)
