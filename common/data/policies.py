"""Owns timm's augmentation policies (RandAugment, AutoAugment): their names, their set-up and their randomness.

They draw from the global states of `random` and `numpy.random`; `run_policy` sets these from a seed.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import numpy as np
from PIL import Image

Policy = Callable[[Image.Image], Image.Image]

_GRAMMAR = re.compile(
    r"rand(-(m\d+|n\d+|p(0?\.\d+|0|1)|mstd\d+(\.\d+)?|mmax\d+|inc[01]|t(weights|3aw?)))*"
    r"|(original|originalr|v0|v0r|3a)(-mstd\d+(\.\d+)?)?"
)


def is_policy(name: str) -> bool:
    """Tell whether `name` is a policy in timm's notation, with no part that timm would pass over or fail at."""
    return _GRAMMAR.fullmatch(name) is not None


def build_policy(name: str, image_size: int, mean: Sequence[float]) -> Policy:
    """Return timm's RandAugment or AutoAugment, set up as by timm's own training transform with bicubic sampling."""
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
        if step.name.startswith("Posterize"):
            step.aug_fn = partial(_posterize, step.aug_fn)
    return cast(Policy, policy)


def _posterize(keep_bits: Callable[..., Image.Image], image: Image.Image, bits: int, **settings: Any) -> Image.Image:
    """Return the image with `bits` bits a colour; at 0, which policies do draw and Pillow 13 refuses, black."""
    return keep_bits(image, bits, **settings) if bits > 0 else Image.new(image.mode, image.size)


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
    return np.asarray(policy(Image.fromarray(crop)))
