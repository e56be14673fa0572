"""The GPUs that CUDA_VISIBLE_DEVICES names; torch is not imported for it."""

import re
from itertools import takewhile

_DEVICE = re.compile(r"\d+|(?:GPU|MIG)-\S+")


def gpus_named(text: str) -> tuple[str, ...]:
    """Return the GPUs that a value of CUDA_VISIBLE_DEVICES names, as CUDA reads it: those before the first word that names none.

    A job of Slurm without GPUs has NoDevFiles there. None of them counts where one is named twice.
    """
    words = [word.strip() for word in text.split(",")]
    named = tuple(takewhile(_DEVICE.fullmatch, words))
    return named if len(set(named)) == len(named) else ()
