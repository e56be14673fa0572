"""Names in stored choices: a level or axis that was renamed has no choice, and exchanged names have those of other arms.

The digest of choices is that of runs, whose hashes do not depend on the names of levels, so it holds under other names, too.
"""

import shlex
from collections.abc import Mapping

from recipes.study.choices import Choice, Choices
from recipes.study.specification import Study
from recipes.study.tuning import Tuning


def misnamed(tuning: Tuning, choices: Choices) -> str | None:
    """Return which arm of a tuning has no choice of its own by its names, and what to do; None if every arm has."""
    arms = {arm: tuning.levels(arm) for arm in tuning.arms}
    for arm, levels in arms.items():
        choice = next((each for each in choices.choices if each.levels == levels), None)
        if choice is None:
            other = next((each for each in choices.choices if each.levels not in arms.values()), None)
            instead = f", but one for {in_words(other.levels)}" if other else ""
            return f"no choice for {in_words(levels)}{instead}. {remedy(tuning.study)}"
        if not _is_of(tuning, arm, choice):
            return (
                f"the choice for {in_words(levels)} is that of other runs: names were exchanged. {remedy(tuning.study)}"
            )
    return None


def _is_of(tuning: Tuning, arm: tuple[str, ...], choice: Choice) -> bool:
    """Return whether a choice was made from an arm's runs; one of an earlier version tells the epochs of its candidates only."""
    if choice.runs is not None:
        return choice.runs == tuning.digest_of(arm)
    return all(each.epochs == tuning.epochs(arm, each.length) for each in choice.candidates)


def in_words(levels: Mapping[str, str]) -> str:
    """Return levels as text: `stem=conv, training=OST`."""
    return ", ".join(f"{axis}={level}" for axis, level in levels.items())


def remedy(study: Study) -> str:
    """Return what to do about choices by other names."""
    return (
        f"Choose again (python -m recipes tune {shlex.quote(study.source)}), take the names of the choices, or set tune=none to"
        " spend the whole budget."
    )
