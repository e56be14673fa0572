"""Choice of the network in a file that holds several: student and teacher, weights and their moving average.

The network is chosen that the method itself evaluates; the rest is reported, never dropped silently.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from common.models.lora import merge_tensors

_KEYS = ("teacher", "state_dict", "model", "state_dict_ema", "model_ema", "ema", "student")
"""Keys of networks in other programs' checkpoints, the one to take first. DINO evaluates the teacher. timm and DeiT evaluate the
plain weights of a checkpoint that also holds their average (`validate.py` without --use-ema, `main.py --eval`)."""
_PREFIXES = {
    "dino.teacher.": "teacher",
    "average.": "average",
    "network.": "network",
    "dino.student.": "student",
}
"""Networks in a checkpoint of this project by the prefix of their tensors, the one that is evaluated and exported first."""
_OTHER_PREFIXES = ("dino.teacher_head.", "dino.student_head.", "dino.loss.", "optimizer.", "classifier.")
"""Prefixes of the other tensors in a checkpoint of this project."""


@dataclass(frozen=True, kw_only=True)
class ChosenNetwork:
    """A network's tensors, and what else is in the file."""

    tensors: dict[str, Tensor]
    name: str | None = None
    """Name of the network if the file names its networks."""
    others: tuple[str, ...] = ()
    """Names of the other networks in the file."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Number of tensors by name of each part that is no part of the backbone: projection heads, a neck."""

    def describe(self) -> str | None:
        """Return in words what was loaded and what was not; None if the file holds one unnamed network only."""
        parts = [f"network: {self.name}"] if self.name else []
        parts += [f"also in the file: {', '.join(self.others)}"] if self.others else []
        heads = [f"{name} ({count} tensor{'s' * (count > 1)})" for name, count in self.dropped.items()]
        parts += [f"not loaded: {', '.join(heads)}"] if heads else []
        return "; ".join(parts) or None


def is_training_state(tensors: Mapping[str, Any]) -> bool:
    """Return whether these are all tensors of a checkpoint of this project."""
    return bool(tensors) and all(name.startswith((*_PREFIXES, *_OTHER_PREFIXES)) for name in tensors)


def choose_from_state(tensors: Mapping[str, Tensor]) -> ChosenNetwork | None:
    """Return the network that the run would export, with LoRA's updates added to the weights; None if there is none."""
    networks = {
        name: {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
        for prefix, name in _PREFIXES.items()
    }
    names = [name for name, found in networks.items() if found]
    if not names:
        return None
    heads = [key for key in tensors if key.startswith(("dino.teacher_head.", "dino.student_head."))]
    chosen = choose_backbone(networks[names[0]], names[0], names[1:])
    return ChosenNetwork(
        tensors=merge_tensors(chosen.tensors),
        name=chosen.name,
        others=chosen.others,
        dropped=chosen.dropped | _count(key.removeprefix("dino.") for key in heads),
    )


def choose_from_mapping(content: Mapping[Any, Any]) -> ChosenNetwork | None:
    """Return the network of another program's checkpoint, or None if it has no named tensors."""
    nested = [key for key in _KEYS if isinstance(content.get(key), Mapping)]
    found = content[nested[0]] if nested else content
    if not all(isinstance(value, Tensor) for value in found.values()):
        return None
    others = [str(key) for key, value in content.items() if nested and key != nested[0] and _is_network(value)]
    return choose_backbone(found, nested[0] if nested else None, others)


def choose_backbone(tensors: Mapping[Any, Tensor], name: str | None, others: Iterable[str] = ()) -> ChosenNetwork:
    """Return the tensors under `backbone.`, if there are any, else all, without the prefix of DataParallel and DDP."""
    weights = {str(key).removeprefix("module."): tensor for key, tensor in tensors.items()}
    backbone = {key.removeprefix("backbone."): each for key, each in weights.items() if key.startswith("backbone.")}
    rest = [key for key in weights if not key.startswith("backbone.")] if backbone else []
    return ChosenNetwork(tensors=backbone or weights, name=name, others=tuple(others), dropped=_count(rest))


def _is_network(value: Any) -> bool:
    """Return whether a value of a checkpoint maps names to tensors, as a network's state does and an optimizer's does not."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Tensor) for each in value.values())


def _count(names: Iterable[str]) -> dict[str, int]:
    """Return the number of tensors of each part, by the first component of their names."""
    return dict(Counter(name.partition(".")[0] for name in names))
