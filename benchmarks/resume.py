"""Do resumed runs differ from uninterrupted ones by more than two uninterrupted ones differ from each other?

`python -m benchmarks resume [--only NAME] [--parallel 4] [--out DIR]`. Each configuration is run twice, and once more with SIGKILL
after its third checkpoint and the same command again. Printed is the largest relative difference of a tensor of the last
checkpoint; on a CPU both must be zero. Some operations of a GPU are not deterministic, so that there the first difference is the
measure of the second (`train.deterministic` removes both). `python -m benchmarks.kills` kills at any moment, on a CPU.
"""

import argparse
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from common.checkpoint_files import TENSORS, checkpoint_paths

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "digits"
COMMON = (
    "data.images_per_class=8", "data.workers=0", "train.epochs=10", "train.batch_size=20", "train.log_every=1",
    "train.checkpoint_steps=5", "optim.warmup_epochs=1",
)  # fmt: skip
SMALL = {
    "pretrain": (
        *COMMON, "dino.out_dim=16", "dino.hidden_dim=16", "dino.bottleneck_dim=8", "crops.num_local=1", "crops.local_size=8",
        "knn.every_epochs=10",
    ),
    "finetune": (*COMMON, "train.evaluate_every=10"),
}  # fmt: skip
KILLED_AFTER = 15
"""Step whose checkpoint is awaited before the kill."""


@dataclass(frozen=True)
class Case:
    """A configuration: a stage and further keys."""

    stage: str
    words: tuple[str, ...]


CASES = {
    "DINO, conv, bf16, 2 workers": Case("pretrain", ("train.precision=bf16", "model.stem=conv", "data.workers=2")),
    "DINO, fp16, no local views": Case("pretrain", ("train.precision=fp16", "crops.num_local=0")),
    "DINO, bf16, compiled": Case("pretrain", ("train.precision=bf16", "train.compile=true")),
    "AdamW, EMA, mixing, bf16": Case(
        "finetune",
        ("train.precision=bf16", "ema_decay=0.9", "augment.mixup=0.8", "augment.cutmix=1.0",
         "augment.random_erasing_prob=0.25", "data.workers=2"),
    ),
    "SAM, conv, bf16": Case("finetune", ("train.precision=bf16", "optim.name=sam", "model.stem=conv")),
    "SAM, fp32, compiled": Case("finetune", ("optim.name=sam", "train.compile=true")),
    "SGD, fp16, clipping": Case(
        "finetune", ("train.precision=fp16", "optim.name=sgd", "optim.lr=0.01", "optim.clip_grad=1.0")
    ),
    "AdamW, fp32, micro-batches, checkpointing": Case(
        "finetune", ("train.micro_batch_size=10", "train.grad_checkpointing=true")
    ),
}  # fmt: skip


class RunFailed(Exception):
    """A run ended with an error; with the end of its output."""


def compare(name: str, folder: Path, case: Case) -> tuple[str, bool]:
    """Run a case three times in `folder`; return a line about it, and whether it differs where it must not, on a CPU.

    Raise RunFailed if a run fails.
    """
    first, second, killed = (folder / f"{name.replace(' ', '_').replace(',', '')}-{number}" for number in range(3))
    for out in (first, second):
        _finish(_start(case, out), out)
    step = _kill(_start(case, killed), killed)
    _finish(_start(case, killed), killed)
    states = [
        load_file(checkpoint_paths(out / "checkpoints")[_newest(out)] / TENSORS) for out in (first, second, killed)
    ]
    repeated, resumed = (difference(states[0], other) for other in states[1:])
    line = f"{name}: repeated {_words(repeated)}, killed at step {step} and resumed {_words(resumed)}"
    return line, not torch.cuda.is_available() and max(repeated, resumed) > 0


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the largest relative difference of a tensor, in norms; 0 if all bits are equal.

    Raise ValueError if the names or shapes differ.
    """
    if {name: tensor.shape for name, tensor in one.items()} != {name: tensor.shape for name, tensor in other.items()}:
        raise ValueError("the states have other tensors")
    largest = 0.0
    for name, tensor in one.items():
        if torch.equal(_bytes(tensor), _bytes(other[name])):
            continue
        distance = float((tensor.double() - other[name].double()).norm() / tensor.double().norm().clamp_min(1e-12))
        largest = max(largest, distance if math.isfinite(distance) else math.inf, sys.float_info.min)
    return largest


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _words(value: float) -> str:
    return "bit-equal" if value == 0 else f"differs by {value:.1e}"


def _start(case: Case, out: Path) -> "subprocess.Popen[bytes]":
    """Start a run; its output is in a file beside its folder."""
    recipe = RECIPES / f"{case.stage}.yaml"
    command = [sys.executable, "-m", case.stage, str(recipe), *SMALL[case.stage], *case.words, f"out={out}"]
    with _output(out).open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _output(out: Path) -> Path:
    return out.with_suffix(".txt")


def _finish(process: "subprocess.Popen[bytes]", out: Path) -> None:
    """Wait for a run; raise RunFailed if it fails."""
    if process.wait():
        raise RunFailed(f"exit code {process.returncode}\n{_output(out).read_text(errors='replace')[-1500:]}")


def _kill(process: "subprocess.Popen[bytes]", out: Path) -> int:
    """Kill a run after a checkpoint; return the step of the newest one. Raise RunFailed if it ends before."""
    while process.poll() is None and _newest(out) < KILLED_AFTER:
        time.sleep(0.01)
    if process.returncode is not None:
        _finish(process, out)
        raise RunFailed("ended before it could be killed; train.epochs is too small for this machine")
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        raise RunFailed("ended before it could be killed; train.epochs is too small for this machine")
    return _newest(out)


def _newest(out: Path) -> int:
    """Return the step of a run's newest checkpoint; -1 without one."""
    folder = out / "checkpoints"
    return max(checkpoint_paths(folder), default=-1) if folder.is_dir() else -1


def main(arguments: Sequence[str]) -> int:
    """Compare the cases, several at a time; return the exit code: 1 if a run failed, or differs on a CPU."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks resume", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(CASES), metavar="NAME", help=f"of: {'; '.join(CASES)}")
    parser.add_argument("--parallel", type=int, default=1, help="cases at a time (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the runs there (default: a temporary folder)")
    options = parser.parse_args(arguments)
    if options.parallel < 1:
        parser.error(f"--parallel {options.parallel}: must be at least 1")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            parser.error(f"--out {folder}: is not empty; its runs would be resumed. Name a new folder.")
        with ThreadPoolExecutor(options.parallel) as pool:
            lines = pool.map(lambda name: _line(name, folder), options.only or list(CASES))
            return int(any([_show(line) for line in lines]))


def _line(name: str, folder: Path) -> tuple[str, bool]:
    """Return the line about a case, and whether a run failed or differs where it must not."""
    try:
        return compare(name, folder, CASES[name])
    except (RunFailed, ValueError, OSError, KeyError) as error:
        return f"{name}: FAILED, {error}", True


def _show(line: tuple[str, bool]) -> bool:
    print(line[0], flush=True)
    return line[1]
