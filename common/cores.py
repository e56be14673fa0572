"""The number of cores that this process may use: its affinity, and the CPU quota of its cgroup, which containers set."""

# No library at hand counts all of it: os.process_cpu_count (Python 3.13) and psutil know no quotas; joblib, which comes with
# scikit-learn, reads those at the root of the cgroup file system only, and rounds them up.

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
SHARE = "TWO_STAGE_VIT_CORES"
"""Environment variable with the cores of each process of a run, which whoever starts several runs divides among them."""
V1_HIERARCHIES = ("cpu", "cpu,cpuacct")
"""Folders in which the controller `cpu` of cgroup v1 is mounted."""


def available_cores() -> int:
    """Return the number of cores that this process may use: its affinity, or its CPU quota, rounded down, if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


def process_cores() -> int:
    """Return the number of cores for this process: its share (`SHARE`), or those of the machine over a run's processes there."""
    share, processes = (os.environ.get(name, "") for name in (SHARE, "LOCAL_WORLD_SIZE"))
    if share.isdecimal() and int(share):
        return int(share)
    return max(1, available_cores() // _number(processes))


def local_processes() -> int:
    """Return the number of the run's processes on this machine, as its launcher or, for tasks of `srun`, Slurm names it."""
    if launched := os.environ.get("LOCAL_WORLD_SIZE"):
        return _number(launched)
    return _number(os.environ.get("SLURM_NTASKS_PER_NODE", "")) if "WORLD_SIZE" in os.environ else 1


def _number(text: str) -> int:
    """Return the number in a variable, 1 where it has none."""
    return max(1, int(text)) if text.isdecimal() else 1


def cpu_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """Return the smallest CPU quota, in cores, of this process's cgroup and all above it; None without a quota.

    `cgroups` is the cgroup file system, `membership` the list of this process's cgroups (/proc/self/cgroup). A container may see
    its own cgroup as the root of the file system, whatever path the list names, so the root counts, too.
    """
    quotas = [quota for folder in _folders(cgroups, membership) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def _folders(cgroups: Path, membership: Path) -> Iterator[Path]:
    """Yield the folders that may hold a quota of this process: cgroup v2, then v1, from its own cgroup up to the root."""
    try:
        lines = membership.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    own = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    v2 = next((path for controllers, path in own if not controllers), "/")
    v1 = next((path for controllers, path in own if "cpu" in controllers.split(",")), "/")
    hierarchies = [(cgroups, v2), (cgroups / "unified", v2), *((cgroups / name, v1) for name in V1_HIERARCHIES)]
    for root, path in hierarchies:
        parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        yield from (root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _quota(folder: Path) -> float | None:
    """Return the CPU quota, in cores, that a cgroup's own files set; None if they set none."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()  # "max 100000" without a quota
        else:
            quota, period = (folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()
        microseconds, per = int(quota), int(period)
    except (OSError, ValueError):
        return None
    return microseconds / per if microseconds > 0 and per > 0 else None
