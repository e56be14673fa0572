"""Kill runs at random moments (SIGKILL) and hold what they end with against a run that nothing happened to, bit by bit.

`python -m benchmarks.kills --kills 200`. A moment is an amount of processor time, so that a busy machine hits the same places:
start-up, reading a checkpoint, steps, writes. A run that ends before the kills are used up is compared, and begun again.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pretrain.train", "finetune.train", "sklearn.datasets", "timm", "datasets"])
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "digits"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
COMMON = [
    "data.images_per_class=8", "train.batch_size=20", "train.log_every=3", "train.checkpoint_steps=5", "optim.warmup_epochs=1",
    "model.stem=conv", "model.drop_path=0.2", "data.workers=0",
]  # fmt: skip
RUNS = {
    "pretrain": [
        *COMMON, "train.epochs=40", "dino.outputs=16", "dino.hidden_dim=16", "dino.bottleneck_dim=8", "views.local_count=1",
        "views.local_size=8", "dino.centering=mean", "dino.freeze_last_layer_epochs=1", "knn.every_epochs=10",
    ],
    "finetune": [
        *COMMON, "train.epochs=40", "optim.name=sam", "augment.mixup=0.8", "augment.cutmix=1.0", "augment.repeats=2",
        "ema_decay=0.9", "train.evaluate_every=10",
    ],
}  # fmt: skip


def main() -> None:
    """Kill, compare and print the count and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills over all stages together")
    parser.add_argument(
        "--stages", nargs="+", choices=list(RUNS), default=list(RUNS), help="which stages; both by default"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="longest life of a process, in processor seconds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    options = parser.parse_args()
    draw, began = random.Random(options.seed), time.monotonic()
    for name in options.stages:
        with tempfile.TemporaryDirectory() as folder:
            kills, ends = kill_stage(name, Path(folder), options.kills // len(options.stages), options.seconds, draw)
        seconds = time.monotonic() - began
        print(
            f"{name}: {kills} kills, {ends} runs to the end, all bit-equal; {seconds:.0f} s since the start", flush=True
        )


def kill_stage(name: str, folder: Path, kills: int, longest: float, draw: random.Random) -> tuple[int, int]:
    """Kill runs of a stage `kills` times; return that number and the number of runs that came to their end."""
    whole, parts, ends = folder / "whole", folder / "parts-0", 0
    wait(start(name, whole), None)
    expected, done = contents(whole), 0
    while True:
        budget = draw.uniform(0, longest) if done < kills else None
        if wait(start(name, parts), budget):
            done += 1
            print(f"  {name}: {done} kills, {ends} runs to the end", file=sys.stderr, flush=True)
            continue
        assert contents(parts) == expected, f"{name}: {parts} differs after {done} kills"
        ends += 1
        if done == kills:
            return done, ends
        parts = folder / f"parts-{ends}"


def start(name: str, out: Path) -> ForkServerProcess:
    """Start a run in a process of its own."""
    process = SERVER.Process(target=_become, args=(name, [str(RECIPES / f"{name}.yaml"), *RUNS[name], f"out={out}"]))
    process.start()
    return process


def wait(process: ForkServerProcess, budget: float | None) -> bool:
    """Wait for a run, or kill it after `budget` processor seconds; return whether it was killed."""
    while budget is not None and process.is_alive() and _processor_seconds(process.pid or 0) < budget:
        time.sleep(0.002)
    if budget is not None:
        process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL), f"a run ended with exit code {process.exitcode}"
    return process.exitcode != 0


def contents(out: Path) -> dict[str, object]:
    """Return what a run leaves that no clock is in: weights, moments, teacher, centre; metrics; the export."""
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    paths = [newest / "state.safetensors", out / "metrics.jsonl", *sorted((out / "export").iterdir())]
    found: dict[str, object] = {path.name: path.read_bytes() for path in paths}
    return found | {"metrics": json.loads((out / "result.json").read_text())["metrics"]}


def _processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _become(name: str, arguments: list[str]) -> None:
    """Be a run, without a word."""
    import importlib

    import torch

    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = importlib.import_module(f"{name}.__main__").main(arguments)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
