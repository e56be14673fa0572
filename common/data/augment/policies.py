"""timm's augmentation policies (RandAugment, AutoAugment): names, construction and seeding.

timm selects the operations and draws their magnitudes; `policy_ops` executes them. timm draws from the global states of `random`
and `numpy.random`, which `apply_policy` seeds.
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
"""Augments an (H, W, 3) uint8 array, or an (H, W, 1) one."""

_GRAMMAR = re.compile(
    r"rand(-(m\d+|n\d+|p(0?\.\d+|0|1)|mstd\d+(\.\d+)?|mmax\d+|inc[01]|t(weights|3aw?)))*"
    r"|(original|originalr|v0|v0r|3a)(-mstd\d+(\.\d+)?)?"
)
_WEIGHTED = re.compile(r"-t(weights|3aw)(-|$)")
"""The sets of operations that timm draws from with weights."""


def is_policy(name: str) -> bool:
    """Return whether `name` is a policy in timm's notation, without parts that timm would ignore or fail on."""
    if _GRAMMAR.fullmatch(name) is None:
        return False
    if not _WEIGHTED.search(name):
        return True
    from timm.data.auto_augment import rand_augment_transform

    policy = rand_augment_transform(name, {})  # draws operations without replacement
    return bool(policy.num_layers <= len(policy.ops))


def build_policy(name: str, image_size: int, mean: Sequence[float]) -> Policy:
    """Return timm's RandAugment or AutoAugment, configured as in timm's training transform with bicubic interpolation.

    It makes exactly the random draws of timm's policy, but takes and returns arrays, and `policy_ops` executes its operations. With
    one value of `mean`, it takes and returns gray images.
    """
    from timm.data.auto_augment import auto_augment_transform, rand_augment_transform

    settings = {
        "translate_const": int(image_size * 0.45),
        "img_mean": tuple(min(255, round(255 * value)) for value in (mean if len(mean) == 3 else [*mean] * 3)),
        "interpolation": Image.Resampling.BICUBIC,
    }
    build = rand_augment_transform if name.startswith("rand") else auto_augment_transform
    policy = build(name, settings)
    ops = policy.ops if name.startswith("rand") else [op for sub_policy in policy.policy for op in sub_policy]
    for op in ops:
        op.aug_fn = OPERATIONS[op.name] if op.name in OPERATIONS else through_pillow(op.aug_fn)
    return cast(Policy, policy) if len(mean) == 3 else _on_gray(policy)


def _on_gray(policy: Policy) -> Policy:
    """Return the policy of gray images (H, W, 1): that of RGB of equal values, which stay equal; colors do not change them."""

    def augment(pixels: Any) -> Any:
        return np.ascontiguousarray(policy(np.repeat(pixels, 3, axis=2))[..., :1])

    return augment


@contextmanager
def preserve_global_rng() -> Iterator[None]:
    """Restore the global states of `random` and `numpy.random` on exit."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def apply_policy(policy: Policy, crop: Any, seed: int) -> Any:
    """Apply a policy to an (H, W, C) crop, with its random draws seeded by `seed`."""
    random.seed(seed)
    np.random.seed(seed)
    return policy(crop)
