"""Connection to a Ray cluster: the actors of runs, created, listed, stopped. All calls of Ray by a study are here."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol

from common.cores import available_cores
from common.errors import UserError
from recipes.run.engines import visible_devices
from recipes.run.ray.capacity import Node, amounts
from recipes.run.ray.tasks import Task
from recipes.study.ray_section import AUTO, LOCAL, NO_RAY_CLIENT
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

    def nodes(self) -> list[Node]:
        """Return what each node that is alive has; raise RayBusy if Ray does not answer."""


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

        wanted = amounts(resources)
        options = {
            "name": task.name,
            "lifetime": "detached",
            "max_restarts": MAX_RESTARTS,
            "num_cpus": wanted["CPU"],
            "num_gpus": wanted["GPU"],
            **({"memory": wanted["memory"]} if wanted["memory"] else {}),
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
            with _answered(self._ray):
                actor.stop.remote(grace_seconds)

    def kill(self, name: str) -> None:
        """End an actor at once, or remove one that waits; its run gets SIGTERM, if it runs."""
        if (actor := self._find(name)) is not None:
            with _answered(self._ray):
                self._ray.kill(actor, no_restart=True)

    def problem(self, name: str) -> str:
        """Return why an actor that this process created could not begin; an empty string if it could.

        Raise RayBusy if Ray does not answer.
        """
        if (begun := self._begun.pop(name, None)) is None:
            return ""
        try:
            with _answered(self._ray):
                return self._problem_of(begun) if self._ray.wait([begun], timeout=_SECONDS)[0] else ""
        except RayBusy:
            self._begun[name] = begun  # asked again
            raise

    def _problem_of(self, begun: Any) -> str:
        """Return why an actor could not begin, of which Ray knows that; an empty string if it could."""
        exceptions = self._ray.exceptions
        try:
            self._ray.get(begun)
        except exceptions.ActorUnavailableError:
            return ""
        except exceptions.RayActorError as error:
            text = str(error).strip()
            return text.splitlines()[-1].strip() if "creation task" in text else ""
        except (exceptions.ActorUnschedulableError, exceptions.RuntimeEnvSetupError) as error:
            return _one_line(error)
        return ""

    def nodes(self) -> list[Node]:
        """Return what each node that is alive has; raise RayBusy if Ray does not answer."""
        with _answered(self._ray):
            return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def describe(self, nodes: Sequence[Node]) -> str:
        """Return the address and the size of the cluster, of these nodes; raise RayBusy if Ray does not answer."""
        total = {name: sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU")}
        with _answered(self._ray):
            address = self._ray.get_runtime_context().gcs_address
        return f"Ray at {address}: nodes: {len(nodes)}, CPUs: {total['CPU']:g}, GPUs: {total['GPU']:g}"

    def _find(self, name: str) -> Any:
        """Return the actor of a name; None if it has ended."""
        with _answered(self._ray):
            try:
                return self._ray.get_actor(name)
            except ValueError:
                return None


def import_ray() -> Any:
    """Return the module ray; raise UserError if it is not installed.

    Where `uv run` has started the study, Ray would copy the working directory to each node, with the images and outputs in it, and
    let workers install an environment of their own there. The nodes share this one instead.
    """
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # read when ray is imported
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
        except Exception as error:  # Ray raises that itself, besides subclasses
            if address is not None or "RAY_ADDRESS" in os.environ:
                where = f"address = {address}" if address is not None else f"RAY_ADDRESS={os.environ['RAY_ADDRESS']}"
                raise UserError(f"--engine ray: {where}: no connection: {_one_line(error)}") from error
        else:
            return RayCluster(ray)
    own = {"num_cpus": available_cores(), "num_gpus": len(visible_devices()), "object_store_memory": _STORE_BYTES}
    try:
        ray.init(address="local", include_dashboard=False, **own, **words)
    except Exception as error:
        raise UserError(
            f"--engine ray: no Ray starts on this machine: {_one_line(error)}. Start one by hand (`ray start --head`), or set the"
            " address of the section ray to that of a cluster."
        ) from error
    return RayCluster(ray, is_own=True)


@contextmanager
def _answered(ray: Any) -> Iterator[None]:
    """Raise RayBusy instead of Ray's errors of a connection that is lost, for now."""
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError, RuntimeError) as error:
        raise RayBusy(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    """Return the beginning of an error of Ray's, which may be many lines, on one line."""
    return " ".join(str(error).split())[:400].rstrip(".")
