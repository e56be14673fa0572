"""Choices of a sizing: keys with their values and reasons, and those that the command line takes over."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError
from common.yaml_words import as_value
from recipes.stages import FINETUNE, PRETRAIN
from recipes.study.plan import format_value
from recipes.study.specification import BASELINES

GIVEN = "set on the command line"
PREFIXES = {
    "every run": ("",),
    "scratch": ("",),
    PRETRAIN: ("pretrain.", ""),
    FINETUNE: ("finetune.", ""),
    "public": ("public.",),
    "continue": ("continue.", "public."),
    "public finetune": ("public.",),
    BASELINES: (f"{BASELINES}.",),
}
"""By group of runs, what stands before a key on the command line: `train.batch_size` is that of both stages from scratch."""


@dataclass(frozen=True)
class SizingChoice:
    """A key that was chosen for a group of runs, and why."""

    group: str
    key: str
    value: Any
    reason: str
    stem: str = ""
    """Stem of the runs from scratch that it is for; empty: all of them."""


@dataclass
class Chooser:
    """Collects choices; where the command line sets a key, its value counts."""

    given: Mapping[str, Any]
    choices: list[SizingChoice] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    """Keys of the command line that were taken over, so that they are not set for every run as well."""

    def value_given(self, group: str, key: str) -> tuple[bool, Any]:
        """Return whether the command line sets a key for a group, and its value."""
        for prefix in PREFIXES[group]:
            if prefix + key in self.given:
                self.taken.add(prefix + key)
                return True, self.given[prefix + key]
        return False, None

    def value(self, group: str, key: str, value: Any) -> Any:
        """Return the value of the command line for a key, otherwise `value`."""
        is_given, given = self.value_given(group, key)
        return given if is_given else value

    def whole(self, group: str, key: str, value: Any) -> int:
        """Return a value as a whole number above zero; raise UserError that names the key for anything else."""
        number = as_value(value)
        if type(number) is int and number > 0:
            return number
        name = next((prefix + key for prefix in PREFIXES[group] if prefix + key in self.given), key)
        raise UserError(f"{name} = {format_value(value)}: must be a whole number above 0; a sizing follows from it.")

    def whole_given(self, group: str, key: str) -> int | None:
        """Return the whole number that the command line gives a key, or None if it gives none."""
        is_given, given = self.value_given(group, key)
        return self.whole(group, key, given) if is_given else None

    def pick(self, group: str, key: str, value: Any, reason: str, *, stem: str = "") -> tuple[str, Any]:
        """Add a choice and return key and value: that of the command line, otherwise `value`."""
        is_given, given = self.value_given(group, key)
        chosen, why = (given, GIVEN) if is_given else (value, reason)
        self.choices.append(SizingChoice(group, key, chosen, why, stem))
        return key, chosen

    def pick_all(self, group: str, settings: Iterable[tuple[str, Any, str]]) -> None:
        """Add choices, each a key, a value and a reason."""
        for setting in settings:
            self.pick(group, *setting)

    def state(self, group: str, key: str, value: Any, reason: str) -> None:
        """Add what the recipes say, or the command line: it is set already."""
        why = f"{GIVEN}: {reason}" if key in self.given else reason
        self.choices.append(SizingChoice(group, key, value, why))

    def note(self, name: str, value: str, reason: str) -> None:
        """Add a choice that is no recipe key."""
        self.choices.append(SizingChoice("study", name, value, reason))
