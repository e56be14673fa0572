"""Choices that were made for a study's size, as its file states them (section `sizing`)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StatedChoice:
    """A choice: what was chosen, the value as text, and why."""

    key: str
    value: str
    reason: str
