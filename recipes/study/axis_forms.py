"""Forms of an axis in a study file (`axes` has an example of each), distinguished by their keys."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from common.config_messages import FORM, TYPE, Otherwise, Problem
from common.config_types import Seed
from common.errors import did_you_mean
from common.yaml_words import values_of
from recipes.study.published import published_table_names
from recipes.study.scale_rules import is_numeric
from recipes.study.sections import NAMED, FileSection, Level, RecipeKey

FORMS = "levels; key and values; table or rows, with keys; or draws, with keys or factors"


def check_table(name: str) -> str:
    """Return the name of a published table; raise for an unknown one."""
    if name not in published_table_names():
        raise PydanticCustomError(TYPE, f"no such published table.{did_you_mean(name, published_table_names())}")
    return name


def _check_interval(ends: Any) -> tuple[float, float]:
    """Return the ends of an interval; raise unless they are positive and ascending."""
    plain = values_of(ends)
    if isinstance(plain, list) and len(plain) == 2 and all(map(is_numeric, plain)) and 0 < plain[0] < plain[1]:
        return float(plain[0]), float(plain[1])
    raise PydanticCustomError(TYPE, "must be [low, high] with 0 < low < high; samples are log-uniform.")


def _setter_form(value: Any) -> str | None:
    """Return the form of what a column sets, or None if it has none."""
    forms = {dict: "levels", list: "keys", tuple: "keys", type(None): "nothing"}
    return forms.get(type(value), "key" if isinstance(value, str) else None)


Keys = RecipeKey | Annotated[tuple[RecipeKey, ...], Field(min_length=1)]
Ends = Annotated[tuple[float, float], BeforeValidator(_check_interval)]
PublishedTableName = Annotated[str, AfterValidator(check_table)]
Setter = Annotated[
    Annotated[RecipeKey, Tag("key")]
    | Annotated[tuple[RecipeKey, ...], Tag("keys")]
    | Annotated[dict[str, Level], Tag("levels")]
    | Annotated[None, Tag("nothing")],
    Discriminator(
        _setter_form,
        custom_error_type=TYPE,
        custom_error_message="must be a recipe key, a list of them, a level for each value of the column, or null.",
    ),
]
"""What a column of a table sets."""
Setters = Annotated[dict[str, Setter], *NAMED]
Row = Annotated[dict[str, Any], Field(min_length=1)]


class LevelsAxis(FileSection):
    """An axis of named levels."""

    levels: Annotated[dict[str, Level], *NAMED]
    """Levels by name: what each sets."""


class ValuesAxis(FileSection):
    """An axis whose levels are the values of a key, or of several keys that share each value."""

    key: Keys
    """Recipe key, or a list of recipe keys that share each value."""
    values: Annotated[
        tuple[Any, ...],
        Field(min_length=1),
        Otherwise("is empty: an axis needs a key, or a list of keys, and a list of values."),
    ]
    """Values of the key."""


class RowsAxis(FileSection):
    """An axis whose levels are rows given in the study."""

    rows: Annotated[
        tuple[Row, ...],
        Field(min_length=1),
        Otherwise("must be a list of rows, each a mapping of columns to values."),
    ]
    """Rows: values by column."""
    keys: Setters
    """What each column sets: a recipe key or a list of them, a level for each of its values, or null for nothing."""


class TableAxis(FileSection):
    """An axis whose levels are the rows of a published table."""

    table: PublishedTableName
    """Name of the table in recipes/studies/published/papers.yaml."""
    keys: Setters
    """What each column sets: a recipe key or a list of them, a level for each of its values, or null for nothing."""


class DrawsAxis(FileSection):
    """An axis whose levels are the points of a random search."""

    draws: Annotated[
        int,
        Field(ge=1, le=100_000),
        Otherwise("is not possible: draws must be a number of points of at least 1, and at most 100000."),
    ]
    """Number of points."""
    seed: Seed = 0
    """Seed of the points."""
    keys: dict[str, Ends] = {}
    """Intervals [low, high] of values, by recipe key."""
    factors: dict[str, Ends] = {}
    """Intervals [low, high] of factors on the values that are set, by recipe key."""

    def problems(self) -> Iterator[Problem]:
        """Yield a problem if nothing is drawn, and one for every key that is not one."""
        if not self.keys and not self.factors:
            yield "keys", "draws need keys or factors: recipe keys with intervals [low, high]."
        for name in self.keys:
            if name.endswith("*"):
                factor = name.rstrip("*")
                yield (
                    f"keys.{name}",
                    f"a factor has a field of its own, beside keys. Replace it by factors: {{{factor}: ...}}.",
                )


_FORMS: dict[str, type[FileSection]] = {
    "levels": LevelsAxis,
    "values": ValuesAxis,
    "rows": RowsAxis,
    "table": TableAxis,
    "draws": DrawsAxis,
}


def _axis_form(value: Any) -> str | None:
    """Return the form whose keys an axis has; of the forms with the most of its keys if it has unknown ones; or None."""
    if not isinstance(value, dict):
        return next((name for name, form in _FORMS.items() if isinstance(value, form)), None)
    known = {key for form in _FORMS.values() for key in form.model_fields}
    counts = {}
    for name, form in _FORMS.items():
        required = {key for key, field in form.model_fields.items() if field.is_required()}
        given = value.keys() & known
        if required <= given <= form.model_fields.keys():
            return name
        counts[name] = len(value.keys() & form.model_fields.keys())
    unknown = value.keys() - known
    return max(counts, key=lambda name: counts[name]) if unknown and any(counts.values()) else None


AxisEntry = Annotated[
    Annotated[LevelsAxis, Tag("levels")]
    | Annotated[ValuesAxis, Tag("values")]
    | Annotated[RowsAxis, Tag("rows")]
    | Annotated[TableAxis, Tag("table")]
    | Annotated[DrawsAxis, Tag("draws")],
    Discriminator(_axis_form, custom_error_type=FORM, custom_error_message=f"must have one of these forms: {FORMS}."),
]
"""An axis, in one of its forms."""
