"""Record of a run's environment: library versions, hardware, git state of the checkout."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from common.cores import available_cores
from common.data.augment import bicubic

_ROOT = Path(__file__).resolve().parents[2]
_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")


def environment(device: torch.device) -> dict[str, Any]:
    """Return library versions, hardware, git state of the checkout and command line, for environment.json."""
    from importlib.metadata import version

    names = ("torch", "torchvision", "timm", "accelerate", "datasets", "safetensors", "numpy")
    return {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "platform": platform.platform(),
        "processor": processor(),
        "processor_model": processor_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "resizing": bicubic.description(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": bool(_git("status", "--porcelain")),
        "command": shlex.join(sys.orig_argv),
    }


def processor() -> str:
    """Return the CPU's name."""
    return _cpuinfo().get("model name") or platform.processor()


def processor_model() -> str:
    """Return the numbers that tell CPUs of one name apart, empty where the system does not state them.

    Virtual machines name processors of several generations alike, and those round differently: the same run gives the same bits
    on the same model only.
    """
    stated = _cpuinfo()
    words = (("cpu family", "family"), ("model", "model"), ("stepping", "stepping"))
    return ", ".join(f"{name} {stated[key]}" for key, name in words if key in stated)


def _cpuinfo(path: Path = Path("/proc/cpuinfo")) -> dict[str, str]:
    """Return what Linux states of the first processor, by its own keys; empty on other systems."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    pairs = (line.partition(":") for line in text.split("\n\n", 1)[0].splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _git(*words: str, root: Path = _ROOT) -> str:
    """Return the output of a git command in the checkout; an empty string without git, and for a copy that is no checkout.

    A copy may lie in a repository of somebody else's, whose state says nothing about it. Git is not to lock its index, for which
    other commands of the user's would fail, nor to take the repository of a hook in which this process runs.
    """
    if not (root / ".git").exists():
        return ""
    variables = {name: value for name, value in os.environ.items() if name not in _OF_A_HOOK}
    try:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(root), *words],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=10,
            env=variables,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
