"""Fuzz complete runs: a few steps on a few digits, with absurd values of the numeric keys.

A run must end with a status, which may be a divergence, or with one message before training.
"""

import tempfile
import typing
from pathlib import Path
from typing import Any, Literal

import torch
from hypothesis import strategies as st

from benchmarks.fuzz_recipes import BASE, STAGES, Case, keys, run_quietly, typed_value

TINY = (
    "data.images_per_class=3", "data.workers=0", "train.epochs=2", "train.batch_size=8", "train.log_every=1",
    "optim.warmup_epochs=1", "model.drop_path=0.0",
)  # fmt: skip
SMALL = {
    "pretrain": (
        "dino.out_dim=8",
        "dino.hidden_dim=8",
        "dino.bottleneck_dim=4",
        "crops.num_local=1",
        "crops.local_size=8",
    ),
    "finetune": ("train.evaluate_every=1",),
}
# Keys whose sensible values take minutes, keys that name things, and one that a process can set only once.
EXCLUDED = (
    "out", "init", "model.name", "data.source", "data.revision", "data.config_name", "data.workers", "train.epochs",
    "train.precision", "crops.num_global", "crops.num_local",
)  # fmt: skip
HUGE = (2**31, 10**12, 2**63, 10**30)


def _numeric(hint: Any) -> bool:
    """Return whether a key's type is a number, a choice or a list of numbers."""
    inner = typing.get_args(hint)
    return hint in (int, float, bool) or typing.get_origin(hint) is Literal or any(_numeric(kind) for kind in inner)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a stage and one to three of its keys with values of their type."""
    stage = draw(st.sampled_from(sorted(SMALL)))
    hints = {key: hint for key, hint in keys(STAGES[stage][0]) if _numeric(hint) and key not in EXCLUDED}
    chosen = draw(st.lists(st.sampled_from(sorted(hints)), min_size=1, max_size=3, unique=True))
    overrides = tuple(f"{key}={_word(draw(typed_value(hints[key])))}" for key in chosen)
    if not draw(st.integers(0, 19)):
        overrides += (f"train.epochs={draw(st.sampled_from((0, -1, *HUGE)))}",)
    return Case(stage, b"", b"", overrides)


def _word(value: Any) -> str:
    """Return a value as YAML on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_word, value))}]"
    special = {"nan": ".nan", "inf": ".inf", "-inf": "-.inf", "None": "null", "True": "true", "False": "false"}
    return special.get(str(value), str(value))


def check(case: Case) -> bool:
    """Train; return whether the run ended with a status. Fail unless it ends so, or in one message and exit code 2."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        recipe = str(BASE / f"{case.stage}.yaml")
        arguments = [recipe, f"out={out}", *TINY, *SMALL[case.stage], *case.overrides]
        code, stderr = run_quietly(STAGES[case.stage][1], arguments)
        assert code == 0 or (code == 2 and stderr.startswith("error: ")), f"exit code {code}: {stderr}"
        assert (out / "result.json").is_file() == (code == 0)
        return code == 0
