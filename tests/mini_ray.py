"""A real Ray of three nodes on this machine, each with one CPU, for tests; runs are on all of them, studies connect to it."""

import importlib.util
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from recipes.run.ray.guard import descendants

NODES = 3


def reason_to_skip() -> str:
    """Return why there can be no Ray here; an empty string if there can."""
    return "" if importlib.util.find_spec("ray") else "the package ray is not installed"


class MiniRay:
    """Three nodes: n1, the head, n2 and n3."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._nodes: dict[str, Any] = {}
        self.address: str = cluster.address

    def add(self, name: str) -> None:
        """Add a node."""
        self._nodes[name] = self._cluster.add_node(num_cpus=1, node_name=name, object_store_memory=100 * 2**20)

    def lose_node(self, name: str, pids: list[int]) -> None:
        """Kill a node as a power cut does: all processes of Ray there, then those with the ids, of the runs on it."""
        node = self._nodes.pop(name)
        raylet = node.all_processes["raylet"][0].process.pid
        for pid in [
            raylet,
            *descendants(raylet),
            *pids,
        ]:  # the worker of a run before the run: it must not see that it ends
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)

    def shutdown(self) -> None:
        """End everything."""
        self._cluster.shutdown()


@contextmanager
def mini_ray() -> Iterator[MiniRay]:
    """Yield a running Ray of three nodes; its nodes have the environment variables of this process."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 1, "node_name": "n1", "include_dashboard": False, "object_store_memory": 100 * 2**20}
    running = MiniRay(Cluster(initialize_head=True, head_node_args=head))
    try:
        for number in range(2, NODES + 1):
            running.add(f"n{number}")
        yield running
    finally:
        running.shutdown()


def processes_of(folder: Path) -> list[int]:
    """Return the processes whose command line has a run's folder: guard, launcher, the run and its workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(folder) in (entry / "cmdline").read_text(errors="replace"):
                found.append(int(entry.name))
    return found
