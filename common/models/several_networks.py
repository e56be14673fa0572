"""Choice of the network in a file that holds several: student and teacher, weights and their moving average.

The network is chosen that the method itself evaluates; the rest is reported, never dropped silently. Programs put a network under
prefixes of their own (`teacher.backbone.`, Lightning's and lightly's `teacher_backbone.vit.`): it is found by its patch embedding.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from common.models.lora import merge_tensors

_KEYS = (
    "teacher",
    "target_encoder",
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "module",
    "network",
    "net",
    "state_dict_ema",
    "model_ema",
    "ema",
    "student",
)
"""Keys of networks in other programs' checkpoints, the one to take first. DINO evaluates the teacher, MSN the
target encoder. timm and DeiT evaluate the plain weights of a checkpoint that also holds their average (`validate.py` without
--use-ema, `main.py --eval`)."""
_PREFIXES = {
    "dino.teacher.": "teacher",
    "average.": "average",
    "network.": "network",
    "dino.student.": "student",
}
"""Networks in a checkpoint of this project by the prefix of their tensors, the one that is evaluated and exported first."""
_KINDS = ("weight", "bias")
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""Components of names that wrappers of a network insert."""
_PATCH_EMBEDDING = re.compile(
    r"(?P<prefix>|.*\.)"
    r"(patch_embed\.proj\.weight|embeddings\.patch_embeddings?\.(projection\.)?weight|(?<!embeddings\.)class_embedding)"
)
"""Weight of the patch embedding in timm's and the official programs, in transformers; OpenAI's CLIP by its class token, which its
text tower lacks. Every network of a file has exactly one."""
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
    own = (*_PREFIXES, *_OTHER_PREFIXES)
    return bool(tensors) and all(isinstance(name, str) and name.startswith(own) for name in tensors)


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
        dropped=chosen.dropped | count_parts(key.removeprefix("dino.") for key in heads),
    )


def choose_from_mapping(content: Mapping[Any, Any]) -> ChosenNetwork | None:
    """Return the network of another program's checkpoint, or None if it has no named tensors."""
    nested = [key for key in _KEYS if _is_network(content.get(key))]
    nested = nested or [key for key in _KEYS if isinstance(content.get(key), Mapping)]
    found = content[nested[0]] if nested else content
    if not all(isinstance(value, Tensor) for value in found.values()):
        return None
    others = [str(key) for key, value in content.items() if nested and key != nested[0] and _is_network(value)]
    return choose_backbone(found, nested[0] if nested else None, others)


def choose_backbone(tensors: Mapping[Any, Tensor], name: str | None, others: Iterable[str] = ()) -> ChosenNetwork:
    """Return the tensors of the network to evaluate, without any prefix, of all tensors of a file or of one of its parts.

    Of several networks it is the teacher, otherwise one that is neither a moving average nor a student. A network without a patch
    embedding is taken from `backbone.`, if there are such tensors.
    """
    weights = {_unwrapped(str(key)): tensor for key, tensor in tensors.items()}
    prefixes = sorted({prefix for key in weights if (prefix := _network_prefix(key)) is not None}, key=_preference)
    if not prefixes:
        prefixes = ["backbone." if any(key.startswith("backbone.") for key in weights) else ""]
    prefix, *other_prefixes = prefixes
    if len(prefixes) > 1:
        name = ": ".join([*([name] if name else []), _words(prefix)])
    network = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
    if f".{prefix}".endswith(".vit."):  # transformers' classifier of ViT's class token, which stands beside the network
        classifier = f"{prefix.removesuffix('vit.')}classifier"
        network |= {
            f"head.{kind}": weights.pop(f"{classifier}.{kind}") for kind in _KINDS if f"{classifier}.{kind}" in weights
        }
    rest = [key for key in weights if not key.startswith((prefix, *other_prefixes))] if prefix else []
    owner = prefix.partition(".")[0] + "."
    return ChosenNetwork(
        tensors=network,
        name=name,
        others=(*others, *map(_words, other_prefixes)),
        dropped=count_parts(key.removeprefix(owner) for key in rest),
    )


def _unwrapped(name: str) -> str:
    """Return the name of a tensor without the wrappers of DataParallel, DDP, torch.compile, FSDP and checkpointing."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _network_prefix(name: str) -> str | None:
    """Return what precedes the name of a patch embedding's weight, or None for any other tensor."""
    found = _PATCH_EMBEDDING.fullmatch(name)
    return found["prefix"] if found else None


def _preference(prefix: str) -> tuple[int, int]:
    """Return the order in which networks with these prefixes are taken."""
    words = re.split(r"[._]", prefix)
    averages = {"ema", "momentum", "average", "averaged"}
    rank = 0 if "teacher" in words else 3 if "student" in words else 2 if averages.intersection(words) else 1
    return rank, len(prefix)


def _words(prefix: str) -> str:
    """Return a prefix as the name of a network."""
    return prefix.removesuffix(".") or "the one without a prefix"


def _is_network(value: Any) -> bool:
    """Return whether a value of a checkpoint maps names to tensors, as a network's state does and an optimizer's does not."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Tensor) for each in value.values())


def count_parts(names: Iterable[str]) -> dict[str, int]:
    """Return the number of tensors of each part, by the first component of their names."""
    return dict(Counter(name.partition(".")[0] for name in names))
