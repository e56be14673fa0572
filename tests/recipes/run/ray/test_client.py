"""Connecting to a Ray, and asking it, with a module `ray` that is none: errors are one message, names are created once."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from common.errors import UserError
from recipes.run.build_engine import EngineOptions, ray_engine
from recipes.run.ray.client import RayBusy, RayCluster, connect, import_ray
from recipes.run.ray.tasks import Task
from recipes.study.ray_section import RayEntry, RayStageEntry
from recipes.study.resources import Resources
from recipes.study.specification import Study


class RayError(Exception):
    """Base of the fake Ray's errors."""


class RayActorError(RayError):
    """The fake Ray's error of an actor that has ended."""


class ActorUnschedulableError(RayError):
    """An actor that no node can have."""


class RuntimeEnvSetupError(RayError):
    """An actor whose environment cannot be set up."""


class ActorUnavailableError(RayActorError):
    """The fake Ray's error of an actor that does not answer now."""


class FakeModule:
    """As much of the module ray as a study uses."""

    def __init__(self, clusters: tuple[str, ...] = ()) -> None:
        self.clusters, self.inits = clusters, list[dict[str, Any]]()
        self.actors: dict[str, dict[str, Any]] = {}
        self.error: Exception | None = None
        self.begins: Exception | None = None
        self.nodes_: list[dict[str, Any]] = [{"Alive": True, "Resources": {"CPU": 4.0, "memory": 8.0 * 2**30}}]
        self.cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)
        self.exceptions = SimpleNamespace(
            RayError=RayError,
            RayActorError=RayActorError,
            ActorUnavailableError=ActorUnavailableError,
            ActorUnschedulableError=ActorUnschedulableError,
            RuntimeEnvSetupError=RuntimeEnvSetupError,
        )
        self.util = SimpleNamespace(list_named_actors=self._list)

    def init(self, address: str, **words: Any) -> None:
        self.inits.append({"address": address, **words})
        if address not in (*self.clusters, "local"):
            raise ConnectionError(f"Could not find any running Ray instance at {address}.")

    def _list(self) -> list[str]:
        self._answer()
        return list(self.actors)

    def nodes(self) -> list[dict[str, Any]]:
        self._answer()
        return self.nodes_

    def get_runtime_context(self) -> SimpleNamespace:
        self._answer()
        return SimpleNamespace(gcs_address="here")

    def get_actor(self, name: str) -> Any:
        def call(*_: object) -> None:
            self._answer()

        return SimpleNamespace(stop=SimpleNamespace(remote=call))

    def kill(self, actor: object, no_restart: bool) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.error:
            raise self.error

    def remote(self, _: type) -> Any:
        def create(options: dict[str, Any]) -> Any:
            self._answer()
            if options["name"] in self.actors:
                raise ValueError(f"The name {options['name']} is already taken.")
            self.actors[options["name"]] = options
            return SimpleNamespace(__ray_ready__=SimpleNamespace(remote=lambda: "begun"))

        return SimpleNamespace(options=lambda **options: SimpleNamespace(remote=lambda *_: create(options)))

    def wait(self, things: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self._answer()
        return things, []

    def get(self, thing: Any) -> None:
        if self.begins:
            raise self.begins


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> FakeModule:
    """Put a fake module ray in the place of the real one."""
    fake = FakeModule()
    monkeypatch.setitem(sys.modules, "ray", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return fake


@pytest.fixture
def cluster(module: FakeModule) -> RayCluster:
    """Return a connection to the fake Ray."""
    return connect("local")


def task(name: str = "pretrain-1") -> Task:
    """Return a task."""
    return Task(f"/study/runs/{name}", ("python",), "/", {}, None, 0, 3)


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"the package ray is not installed. Install it: pip install '.\[ray\]'"):
        connect(None)


def test_workers_use_this_environment_where_uv_has_started_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.delenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", raising=False)
    import_ray()
    assert os.environ.pop("RAY_ENABLE_UV_RUN_RUNTIME_ENV") == "0"
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "1")
    import_ray()
    assert os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] == "1"


def test_a_cluster_of_this_machine_is_used_and_otherwise_a_ray_is_started(module: FakeModule) -> None:
    module.clusters = ("auto",)
    connect(None)
    assert [init["address"] for init in module.inits] == ["auto"]
    module.clusters, module.inits = (), []
    connect(None)
    assert [init["address"] for init in module.inits] == ["auto", "local"]


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "auto"])
def test_an_address_without_a_cluster_is_an_error(module: FakeModule, address: str) -> None:
    with pytest.raises(UserError, match=f"address = {address}: no connection: Could not find any running Ray"):
        connect(address)
    assert len(module.inits) == 1  # no other Ray is started


def test_a_cluster_of_the_environment_that_does_not_answer_is_an_error(
    module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(UserError, match="RAY_ADDRESS=10.0.0.1:6379: no connection"):
        connect(None)


def test_a_ray_of_the_study_that_lacks_what_a_run_asks_for_is_an_error(module: FakeModule, study: Study) -> None:
    asking = replace(study, ray=RayEntry(address="local", stages={"finetune": RayStageEntry(gpus_per_node=2)}))
    with pytest.raises(UserError, match="a run of the stage finetune asks for 2 CPUs with 2 GPUs, which this machine"):
        ray_engine(EngineOptions("ray"), asking)
    module.clusters = ("auto",)  # a node with GPUs may join a cluster
    ray_engine(EngineOptions("ray"), replace(asking, ray=RayEntry(address="auto", gpus_per_node=2)))


def test_ray_client_is_refused(module: FakeModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(UserError, match="RAY_ADDRESS=ray://head:10001: Ray Client is not supported"):
        connect(None)
    assert not module.inits


def test_an_actor_has_the_resources_of_its_run_and_is_created_once(module: FakeModule, cluster: RayCluster) -> None:
    resources = Resources(processes_per_node=2, cpus_per_process=3, gpus_per_node=2, memory="1G")
    assert cluster.submit(task(), resources)
    (options,) = module.actors.values()
    assert (options["num_cpus"], options["num_gpus"], options["memory"]) == (6, 2, 2**30)
    assert options["lifetime"] == "detached" and options["name"].startswith("pretrain-1-")
    assert not cluster.submit(task(), resources)
    assert cluster.names() == set(module.actors)


def test_the_name_of_an_actor_follows_from_the_folder_of_its_run() -> None:
    assert task("a").name == task("a").name != task("b").name
    assert Task("/other/runs/a", ("python",), "/", {}, None, 0, 3).name != task("a").name


def test_a_ray_that_does_not_answer_is_busy(module: FakeModule, cluster: RayCluster) -> None:
    module.error = RayError("failed to connect to all addresses")
    with pytest.raises(RayBusy, match="failed to connect"):
        cluster.names()


def test_what_ended_an_actor_before_it_began_is_its_last_line(module: FakeModule, cluster: RayCluster) -> None:
    cluster.submit(task(), Resources())
    module.begins = RayActorError(
        "The actor died because of an error raised in its creation task, ...\nRuntimeError: why"
    )
    assert cluster.problem(task().name) == "RuntimeError: why"
    assert cluster.problem("unknown") == ""
    cluster.submit(task("other"), Resources())
    module.begins = RayActorError("The actor died because its node has died.")
    assert cluster.problem(task("other").name) == ""


def test_an_actor_that_ray_cannot_place_is_a_problem_with_its_reason(module: FakeModule, cluster: RayCluster) -> None:
    cluster.submit(task(), Resources())
    module.begins = ActorUnschedulableError("The actor is not schedulable:\n the node is gone")
    assert cluster.problem(task().name) == "The actor is not schedulable: the node is gone"


@pytest.mark.parametrize("call", ["nodes", "describe", "problem", "stop", "kill", "submit"])
def test_a_connection_that_is_lost_is_busy_whatever_is_asked(
    module: FakeModule, cluster: RayCluster, call: str
) -> None:
    cluster.submit(task(), Resources())
    calls: dict[str, Callable[[], object]] = {
        "nodes": cluster.nodes,
        "describe": lambda: cluster.describe([]),
        "problem": lambda: cluster.problem(task().name),
        "stop": lambda: cluster.stop(task().name, 1.0),
        "kill": lambda: cluster.kill(task().name),
        "submit": lambda: cluster.submit(task("other"), Resources()),
    }
    module.error = RayError("failed to connect to all addresses")
    with pytest.raises(RayBusy, match="failed to connect"):
        calls[call]()


def test_why_an_actor_could_not_begin_is_asked_again_where_ray_does_not_answer(
    module: FakeModule, cluster: RayCluster
) -> None:
    cluster.submit(task(), Resources())
    module.error = RayError("failed to connect to all addresses")
    with pytest.raises(RayBusy):
        cluster.problem(task().name)
    for lost in (RayError("the raylet died"), ConnectionError("no connection")):  # while its answer is fetched
        module.error, module.begins = None, lost
        with pytest.raises(RayBusy, match=str(lost)):
            cluster.problem(task().name)
    module.error, module.begins = None, RayActorError("error in its creation task\nRuntimeError: why")
    assert cluster.problem(task().name) == "RuntimeError: why"


def test_a_ray_that_does_not_answer_or_start_is_one_error(
    module: FakeModule, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    module.error = RayError("failed to connect to all addresses")
    with pytest.raises(UserError, match="--engine ray: Ray does not answer: failed to connect"):
        ray_engine(EngineOptions("ray"), replace(study, ray=RayEntry(address="local")))

    def fail(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(module, "init", fail)
    with pytest.raises(
        UserError, match="no Ray starts on this machine: The current node timed out during startup. Start"
    ):
        connect("local")
