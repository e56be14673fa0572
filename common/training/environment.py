"""Record of a run's environment: library versions, hardware, git state of the checkout."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from common.cores import available_cores
from common.data.augment import bicubic


def environment(device: torch.device) -> dict[str, Any]:
    """Return library versions, hardware, git state of the checkout and command line, for environment.json."""
    from importlib.metadata import version

    names = ("torch", "torchvision", "timm", "accelerate", "datasets", "safetensors", "numpy")
    return {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "platform": platform.platform(),
        "processor": processor(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "resizing": bicubic.description(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": bool(_git("status", "--porcelain")),
        "command": " ".join(sys.orig_argv),
    }


def processor() -> str:
    """Return the CPU's model name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*words: str) -> str:
    """Return the output of a git command in the checkout, or an empty string without git."""
    root = Path(__file__).resolve().parents[2]
    try:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, encoding="utf-8", errors="replace", timeout=10
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
