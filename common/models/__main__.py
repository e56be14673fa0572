"""Print every network with its parameters, multiply-adds and activations, beside what the papers print.

    python -m common.models

Nothing is stored: each network is built without memory (on torch's meta device) and counted. The exit code is 1 where a
count neither gives the printed digits nor is a difference that printed.yaml declares.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from common.models.complexity import Complexity, measure
from common.models.feed_forward import FEED_FORWARDS
from common.models.networks import ARCHITECTURES, ModelConfig, build_network
from common.models.stem_grammar import ALIASES, PAPER_STEMS, StemSpec, parse_stem

UNITS = {"parameters": 1e6, "multiply_adds": 1e9, "activations": 1e6}
HEADINGS = (
    "network",
    "stem",
    "feed-forward",
    "patch",
    "image",
    "parameters (M)",
    "multiply-adds (G)",
    "activations (M)",
)
AGREES, DECLARED, DISAGREES = "=", "~", "!"
LEGEND = f"""{AGREES} the printed digits
{DECLARED} not the printed digits: a difference that printed.yaml declares and explains
{DISAGREES} not the printed digits, and not declared"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one network, its cost, and what its paper prints of it."""

    config: ModelConfig
    image_size: int
    cost: Complexity
    printed: dict[str, Any]

    def verdict(self, measure_name: str) -> str:
        """Compare one measure with the print: agreement, declared difference, disagreement, or nothing printed."""
        printed = self.printed.get(measure_name)
        if printed is None:
            return ""
        counted = as_printed(getattr(self.cost, measure_name), measure_name, printed)
        if counted == printed:
            return AGREES
        return DECLARED if counted == self.printed.get("counted", {}).get(measure_name) else DISAGREES

    def cells(self) -> tuple[str, ...]:
        """Return the row's text, one string for each heading."""
        costs = []
        for name, unit in UNITS.items():
            costs.append(f"{getattr(self.cost, name) / unit:9.3f} {self.verdict(name)} {self.printed.get(name, '')}")
        choices = ["its own", "none", "none"]
        if (stem := stem_of(self.config)) is not None:
            choices = [stem.name, self.config.ffn, f"{self.config.patch():5d}"]
        return (self.config.name, *choices, f"{self.image_size:5d}", *costs)


def stem_of(config: ModelConfig) -> StemSpec | None:
    """Return the stem of a network; none where it has nothing to choose."""
    name = config.stem or ARCHITECTURES[config.name].stem
    return None if name is None else parse_stem(name)


def as_printed(value: int, measure_name: str, printed: str) -> str:
    """Return a count in the unit and with the number of decimals of a printed one."""
    decimals = len(printed.partition(".")[2])
    return f"{value / UNITS[measure_name]:.{decimals}f}"


def read_printed() -> list[dict[str, Any]]:
    """Return the printed rows of printed.yaml, in its order."""
    sources = yaml.safe_load(Path(__file__).with_name("printed.yaml").read_text(encoding="utf-8"))
    return [network for source in sources for network in source["networks"]]


def networks() -> Iterator[tuple[ModelConfig, int]]:
    """Yield (network, image size): every size with its own stem and with conv or patchify, then what the tables vary."""
    for name, architecture in ARCHITECTURES.items():
        yield ModelConfig(name=name), architecture.image_size
        other = {"patchify": "conv", "conv": "patchify"}.get(architecture.stem or "")
        if other is not None and not name.startswith("vit_p_"):
            yield ModelConfig(name=name, stem=other), architecture.image_size
    for name in ("vit_tiny", "vit_small", "vit_base"):
        for patch_size, image_size in ((8, 224), (4, 32), (2, 32)):
            yield ModelConfig(name=name, patch_size=patch_size), image_size
    for stem in PAPER_STEMS:
        if stem not in ALIASES.values():
            yield ModelConfig(name="deit_small", stem=stem), 224
    for name in ("deit_small", "volo_d1"):
        for design in FEED_FORWARDS[1:]:
            yield ModelConfig(name=name, stem="conv", ffn=design), 224


def measure_row(config: ModelConfig, image_size: int, printed: list[dict[str, Any]]) -> Row:
    """Build a network without memory, count it, and find what is printed of it."""
    with torch.device("meta"):
        model = build_network(config, image_size=image_size, num_classes=1000)
    architecture = ARCHITECTURES[config.name]
    here: dict[str, Any] = {}
    if (config.patch(), image_size, config.ffn) == (architecture.patch_size, architecture.image_size, "mlp"):
        candidates = [row for row in printed if row["name"] == config.name]
        here = next((row for row in candidates if stem_of(_as_printed_network(row)) == stem_of(config)), here)
    return Row(config=config, image_size=image_size, cost=measure(model, image_size), printed=here)


def _as_printed_network(row: dict[str, Any]) -> ModelConfig:
    """Return the network that a printed row is of."""
    return ModelConfig(name=row["name"], stem=row.get("stem"))


def as_table(rows: list[Row]) -> str:
    """Return the rows as an aligned table."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    heading, *body = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    return "\n".join([heading, "-" * (sum(widths) + 2 * (len(widths) - 1)), *body])


def main() -> int:
    """Print the table and the tally of agreements; return the exit code."""
    printed = read_printed()
    rows = [measure_row(config, image_size, printed) for config, image_size in networks()]
    verdicts = [row.verdict(name) for row in rows for name in UNITS]
    tally = {sign: verdicts.count(sign) for sign in (AGREES, DECLARED, DISAGREES)}
    num_printed = sum(name in row for row in printed for name in UNITS)
    assert sum(tally.values()) == num_printed, "printed.yaml names a network that the table has not"
    print(as_table(rows))
    print(f"\n{LEGEND}")
    print(
        f"Of {num_printed} printed values {tally[AGREES]} agree to the printed digit, {tally[DECLARED]} differ as"
        f" declared, {tally[DISAGREES]} disagree."
    )
    return 1 if tally[DISAGREES] else 0


if __name__ == "__main__":
    sys.exit(main())
