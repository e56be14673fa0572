"""Version of each stage's numerics; together with the recipe it identifies checkpoints and the runs of a study.

If a change to this program changes the numbers computed from the same recipe, a run must not start with one version and end with
the other, and must not be compared in a table with runs of the other. When you change what a stage computes, increase its version
here and document the change in CHANGELOG.md.
"""

from collections.abc import Mapping
from typing import Any

FIRST = 1
"""Version of runs that record none."""
_LOW_TEMPERATURE = 0.0125


def numerics_version(stage: str, config: Mapping[str, Any]) -> int:
    """Return the numerics version of `stage` for a recipe (its dotted keys; keys at their default may be missing).

    pretrain, 2: position embeddings are interpolated for local views as in DINO's official program. finetune with token labels,
    2: MixToken's boxes have even sides, as in VOLO's official program. finetune with class weights or logit adjustment, and label
    smoothing, one more: they leave the smoothing as it is. k-NN at a temperature below 0.0125, one more: votes do not overflow.
    """
    if stage != "finetune":
        before = 2 if stage == "pretrain" else FIRST
        return before + int(config.get("knn.temperature", 1.0) < _LOW_TEMPERATURE)
    is_corrected = config.get("loss.class_weights", "none") != "none" or config.get("loss.logit_adjustment", 0) != 0
    is_corrected &= config.get("augment.label_smoothing", 0.1) != 0
    return FIRST + int(config.get("objective") == "token_labels") + int(is_corrected)
