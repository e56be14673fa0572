"""The actor of a run in Ray. It is pickled by value, so that a worker of Ray needs nothing of this repository before it begins."""

import sys
from pathlib import Path
from typing import Any


class RunActor:
    """Works on a run from its construction on, and ends itself with it; Ray constructs it again where its node is lost."""

    def __init__(self, repository: str, task: dict[str, Any]) -> None:
        """Start the run; `task` has the fields of `tasks.Task`. Raise RuntimeError if this node does not see the repository."""
        import ray

        context = ray.get_runtime_context()
        me = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
        named = me["NodeName"] != me["NodeManagerAddress"]
        node = me["NodeName"] if named else me["NodeManagerHostname"]
        if not (Path(repository) / "recipes").is_dir():
            raise RuntimeError(
                f"{node}: sees no {repository}. The clone must be on a file system that the nodes share."
            )
        sys.path.insert(0, repository)
        from recipes.run.ray.node_run import NodeRun
        from recipes.run.ray.tasks import Task

        actor = context.current_actor
        self._run = NodeRun(Task(**task), node, at_end=lambda: actor.__ray_terminate__.remote())
        self._run.begin()

    def stop(self, grace_seconds: float) -> None:
        """Stop the run: it saves within the grace, and the actor ends with it."""
        self._run.stop(grace_seconds)
