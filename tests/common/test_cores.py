"""Cores: the CPU quota of cgroup v2 and v1 counts, wherever a container shows it."""

import os
from pathlib import Path

import pytest

from common import cores
from common.cores import available_cores, cpu_quota


def write_quotas(cgroups: Path, quotas: dict[str, str]) -> None:
    """Write cpu.max files, or "quota period" of cgroup v1 in folders below cpu or cpu,cpuacct, by folder."""
    for name, content in quotas.items():
        folder = cgroups / name
        folder.mkdir(parents=True, exist_ok=True)
        if name.partition("/")[0] in cores.V1_HIERARCHIES:
            for file, value in zip(("cpu.cfs_quota_us", "cpu.cfs_period_us"), content.split()):
                (folder / file).write_text(value + "\n")
        else:
            (folder / "cpu.max").write_text(content + "\n")


@pytest.mark.parametrize(
    ("membership", "quotas", "expected"),
    [
        ("0::/", {"": "150000 100000"}, 1.5),  # a container's cgroup namespace
        ("0::/", {"": "max 100000"}, None),
        ("0::/slice/job", {"slice/job": "400000 100000", "slice": "max 100000"}, 4),
        ("0::/slice/job", {"slice/job": "400000 100000", "slice": "200000 100000"}, 2),  # the one above is smaller
        ("0::/slice/job", {"slice/job": "max 100000", "slice": "300000 100000"}, 3),
        ("0::/slice/job", {"slice/other": "100000 100000"}, None),  # of another process
        ("0::/../..", {"": "200000 100000"}, 2),  # outside of the namespace's root
        ("1:cpu:/\n0::/", {"cpu": "-1 100000"}, None),
        (
            "4:cpu,cpuacct:/docker/abc",
            {"cpu,cpuacct": "250000 100000"},
            2.5,
        ),  # the container's mount begins at its cgroup
        ("4:cpuacct,cpu:/a/b", {"cpu/a/b": "800000 100000", "cpu/a": "100000 50000", "cpu": "-1 100000"}, 2),
        ("4:cpuset:/a", {"cpu/a": "100000 100000"}, None),  # cpuset is another controller
        ("0::/", {"": "torn"}, None),
        ("torn", {"": "100000 100000"}, 1),
        ("", {}, None),
    ],
)
def test_smallest_quota_counts(tmp_path: Path, membership: str, quotas: dict[str, str], expected: float | None) -> None:
    (tmp_path / "membership").write_text(membership + "\n")
    write_quotas(tmp_path / "cgroups", quotas)
    assert cpu_quota(tmp_path / "cgroups", tmp_path / "membership") == expected


def test_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "cgroups", tmp_path / "membership") is None


@pytest.mark.parametrize(("quota", "expected"), [(2.9, 2), (0.5, 1), (100.0, 8), (None, 8)])
def test_quota_is_rounded_down_to_at_least_one_core(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert available_cores() == expected
