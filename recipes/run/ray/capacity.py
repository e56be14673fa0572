"""What a run asks of Ray, and whether a node of the cluster has it."""

from collections.abc import Iterable, Mapping

from recipes.run.runner import pluralize
from recipes.study.ray_section import memory_bytes
from recipes.study.resources import Resources

Node = Mapping[str, float]
"""What a node has, by Ray's names: CPU, GPU, memory (bytes)."""


def amounts(resources: Resources) -> dict[str, float]:
    """Return what a run asks for, by Ray's names."""
    memory = memory_bytes(resources.memory) if resources.memory else 0
    return {"CPU": resources.cpus_per_node, "GPU": resources.gpus_per_node, "memory": memory}


def lacking(resources: Resources, nodes: Iterable[Node]) -> str:
    """Return what a run asks for if no node has all of it, as `2 CPUs with 8 GPUs`; otherwise an empty string."""
    wanted = amounts(resources)
    if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        return ""
    words = {
        "CPU": pluralize(resources.cpus_per_node, "CPU"),
        "GPU": pluralize(resources.gpus_per_node, "GPU"),
        "memory": f"{resources.memory} of memory",
    }
    return " with ".join(words[name] for name, amount in wanted.items() if amount)
