"""Owns the version of what each stage computes, by which checkpoints and a study's runs are known beside their recipe.

Where this program computes other numbers from the same recipe than it did before, a run must not begin under the one and end
under the other, nor stand in a table beside runs of the other. Whoever changes what a stage computes raises its version here and
says so in CHANGELOG.md.
"""

from collections.abc import Mapping
from typing import Any

FIRST = 1
"""Version of runs that carry none."""


def numerics_version(stage: str, config: Mapping[str, Any]) -> int:
    """Return the version of what `stage` computes under a recipe (its dotted keys; those at their default may be missing).

    pretrain, 2: position embeddings are resampled for local views as in DINO's program. finetune with token labels, 2: MixToken's
    boxes have even sides, as in VOLO's program.
    """
    if stage == "pretrain" or (stage == "finetune" and config.get("objective") == "token_labels"):
        return 2
    return FIRST
