"""Connection to a Ray cluster: the actors of runs, created, listed, stopped. All calls of Ray by a study are here."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol

from common.cores import available_cores
from common.errors import UserError
from recipes.run.engines import visible_devices
from recipes.run.ray.tasks import Task
from recipes.run.runner import pluralize
from recipes.study.ray_section import AUTO, LOCAL, NO_RAY_CLIENT, memory_bytes
from recipes.study.resources import Resources
from recipes.study.specification import REPOSITORY

NAMESPACE = "two-stage-vit"
MAX_RESTARTS = 1000
"""How often Ray constructs an actor again; the actor itself gives up much earlier, where its run makes no progress."""
_SECONDS = 30.0
"""Longest time for an answer that Ray has at hand."""
_STORE_BYTES = 100 * 2**20
"""Size of the object store of a Ray that a study starts: runs pass files, not objects."""


class RayBusy(Exception):
    """Ray does not answer, for now."""


class RayClient(Protocol):
    """What a study asks of Ray."""

    def names(self) -> set[str]:
        """Return the names of the actors that wait, run, or are about to run again; raise RayBusy if Ray does not answer."""

    def submit(self, task: Task, resources: Resources) -> bool:
        """Create the actor of a task; return False if there is one already. Raise RayBusy if Ray does not answer."""

    def stop(self, name: str, grace_seconds: float) -> None:
        """Ask an actor to stop its run within the grace; does not wait."""

    def kill(self, name: str) -> None:
        """End an actor at once, or remove one that waits; its run gets SIGTERM, if it runs."""

    def problem(self, name: str) -> str:
        """Return why an actor that this process created could not begin; an empty string if it could."""

    def lacking(self, resources: Resources) -> str:
        """Return what no node of the cluster has now, as `8 GPUs`; an empty string if a node has all."""


class RayCluster:
    """A Ray cluster to which this process is connected."""

    def __init__(self, ray: Any, *, is_own: bool = False) -> None:
        """Take the module ray, connected; `is_own`: to a Ray that this process has started and that ends with it."""
        self._ray, self.is_own = ray, is_own
        self._begun: dict[str, Any] = {}
        """By actor, an object that is there once it has begun."""
        ray.cloudpickle.register_pickle_by_value(sys.modules["recipes.run.ray.actor"])

    def names(self) -> set[str]:
        """Return the names of the actors that wait, run, or are about to run again; raise RayBusy if Ray does not answer."""
        with _answered(self._ray):
            return set(self._ray.util.list_named_actors())

    def submit(self, task: Task, resources: Resources) -> bool:
        """Create the actor of a task; return False if there is one already. Raise RayBusy if Ray does not answer."""
        from recipes.run.ray.actor import RunActor

        options = {
            "name": task.name,
            "lifetime": "detached",
            "max_restarts": MAX_RESTARTS,
            "num_cpus": resources.cpus_per_node,
            "num_gpus": resources.gpus_per_node,
            **({"memory": memory_bytes(resources.memory)} if resources.memory else {}),
        }
        with _answered(self._ray):
            try:
                actor = self._ray.remote(RunActor).options(**options).remote(str(REPOSITORY), asdict(task))
            except ValueError:  # the name is taken: another process of the study was first
                if task.name in self.names():
                    return False
                raise
            self._begun[task.name] = actor.__ray_ready__.remote()
            return True

    def stop(self, name: str, grace_seconds: float) -> None:
        """Ask an actor to stop its run within the grace; does not wait."""
        if (actor := self._find(name)) is not None:
            actor.stop.remote(grace_seconds)

    def kill(self, name: str) -> None:
        """End an actor at once, or remove one that waits; its run gets SIGTERM, if it runs."""
        if (actor := self._find(name)) is not None:
            with _answered(self._ray):
                self._ray.kill(actor, no_restart=True)

    def problem(self, name: str) -> str:
        """Return why an actor that this process created could not begin; an empty string if it could."""
        begun = self._begun.pop(name, None)
        if begun is None or not self._ray.wait([begun], timeout=_SECONDS)[0]:
            return ""
        try:
            self._ray.get(begun)
        except self._ray.exceptions.ActorUnavailableError:
            return ""
        except self._ray.exceptions.RayActorError as error:
            text = str(error).strip()
            return text.splitlines()[-1].strip() if "creation task" in text else ""
        return ""

    def lacking(self, resources: Resources) -> str:
        """Return what no node of the cluster has now, as `8 GPUs`; an empty string if a node has all."""
        cpus, gpus = resources.cpus_per_node, resources.gpus_per_node
        wanted = {"CPU": cpus, "GPU": gpus, "memory": memory_bytes(resources.memory) if resources.memory else 0}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
            return ""
        words = {
            "CPU": pluralize(cpus, "CPU"),
            "GPU": pluralize(gpus, "GPU"),
            "memory": f"{resources.memory} of memory",
        }
        return " with ".join(words[name] for name, amount in wanted.items() if amount)

    def describe(self) -> str:
        """Return the address and the size of the cluster."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        total = {name: sum(node.get(name, 0) for node in alive) for name in ("CPU", "GPU")}
        address = self._ray.get_runtime_context().gcs_address
        return f"Ray at {address}: nodes: {len(alive)}, CPUs: {total['CPU']:g}, GPUs: {total['GPU']:g}"

    def _find(self, name: str) -> Any:
        """Return the actor of a name; None if it has ended."""
        with _answered(self._ray):
            try:
                return self._ray.get_actor(name)
            except ValueError:
                return None


def import_ray() -> Any:
    """Return the module ray; raise UserError if it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray: the package ray is not installed. Install it: pip install '.[ray]'") from error
    return ray


def connect(address: str | None) -> RayCluster:
    """Return a connection to the cluster at an address; None: that of RAY_ADDRESS, then one on this machine, then a new one here.

    Raise UserError if there is no Ray, no such cluster, or one of other versions.
    """
    ray = import_ray()
    import recipes.run.ray.actor  # noqa: F401 (pickled by value)

    if address in (None, AUTO) and "://" in os.environ.get("RAY_ADDRESS", ""):
        raise UserError(f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}: {NO_RAY_CLIENT}")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    words = {"namespace": NAMESPACE, "log_to_driver": False, "logging_level": "ERROR"}
    if address != LOCAL:
        try:
            ray.init(address=address or AUTO, **words)
            return RayCluster(ray)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if address is not None or "RAY_ADDRESS" in os.environ:
                where = f"address = {address}" if address is not None else f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}"
                reason = " ".join(str(error).split())
                raise UserError(f"--engine ray: {where}: no connection: {reason}") from error
    cores, gpus = available_cores(), len(visible_devices())
    ray.init(
        address="local",
        num_cpus=cores,
        num_gpus=gpus,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        **words,
    )
    return RayCluster(ray, is_own=True)


@contextmanager
def _answered(ray: Any) -> Iterator[None]:
    """Raise RayBusy instead of Ray's errors of a connection that is lost, for now."""
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise RayBusy(" ".join(str(error).split())[:200]) from error
