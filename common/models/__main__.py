"""Print the complexity table: parameters, MACs and activations of every network, compared with the published values.

    python -m common.models [NAME ...]

Each network is built on torch's meta device, without allocating memory. The exit code is 1 if a count does not round to the
published value and published.yaml does not declare the difference.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.models.complexity import Complexity, measure
from common.models.feed_forward import FEED_FORWARDS
from common.models.meta import on_meta_device
from common.models.networks import ARCHITECTURES, ModelConfig, build_network
from common.models.stem_registry import ALIASES, PAPER_STEMS, StemSpec, parse_stem
from common.pipes import exit_with

UNITS = {"parameters": 1e6, "macs": 1e9, "activations": 1e6}
HEADINGS = (
    "network",
    "stem",
    "feed-forward",
    "patch",
    "image",
    "parameters (M)",
    "MACs (G)",
    "activations (M)",
)
AGREES, DECLARED, DISAGREES = "=", "~", "!"
LEGEND = f"""{AGREES} rounds to the published value
{DECLARED} differs from the published value as declared and explained in published.yaml
{DISAGREES} differs from the published value, not declared"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network, its complexity, and the values published for it."""

    config: ModelConfig
    image_size: int
    cost: Complexity
    published: dict[str, Any]

    def status(self, measure_name: str) -> str:
        """Compare one count with the published value: agrees, declared difference, disagrees, or "" if none is published."""
        published = self.published.get(measure_name)
        if published is None:
            return ""
        counted = round_like(getattr(self.cost, measure_name), measure_name, published)
        if counted == published:
            return AGREES
        return DECLARED if counted == self.published.get("counted", {}).get(measure_name) else DISAGREES

    def cells(self) -> tuple[str, ...]:
        """Return the cells of the row, one string per heading."""
        costs = []
        for name, unit in UNITS.items():
            costs.append(f"{getattr(self.cost, name) / unit:9.3f} {self.status(name)} {self.published.get(name, '')}")
        options = ["fixed", "none", "none"]
        if (stem := stem_of(self.config)) is not None:
            options = [stem.name, self.config.ffn, f"{self.config.patch():5d}"]
        return (self.config.name, *options, f"{self.image_size:5d}", *costs)


def stem_of(config: ModelConfig) -> StemSpec | None:
    """Return the stem of a network; None if its stem is fixed."""
    name = config.stem or ARCHITECTURES[config.name].stem
    return None if name is None else parse_stem(name)


def round_like(value: int, measure_name: str, published: str) -> str:
    """Return a count in the unit and with the number of decimals of the published value."""
    decimals = len(published.partition(".")[2])
    return f"{value / UNITS[measure_name]:.{decimals}f}"


def load_published() -> list[dict[str, Any]]:
    """Return the rows of published.yaml in order."""
    sources = yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
    return [network for source in sources for network in source["networks"]]


def networks() -> Iterator[tuple[ModelConfig, int]]:
    """Yield (network, image size): every size with its default stem and with conv or patchify, then the papers' variants."""
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


def measure_row(config: ModelConfig, image_size: int, published: list[dict[str, Any]]) -> Row:
    """Build a network on the meta device, count its complexity, and find its published values."""
    with on_meta_device():
        model = build_network(config, image_size=image_size, num_classes=1000)
    architecture = ARCHITECTURES[config.name]
    row: dict[str, Any] = {}
    if (config.patch(), image_size, config.ffn) == (architecture.patch_size, architecture.image_size, "mlp"):
        candidates = [entry for entry in published if entry["name"] == config.name]
        row = next((entry for entry in candidates if stem_of(_network_of(entry)) == stem_of(config)), row)
    return Row(config=config, image_size=image_size, cost=measure(model, image_size), published=row)


def _network_of(row: dict[str, Any]) -> ModelConfig:
    """Return the network of a published row."""
    return ModelConfig(name=row["name"], stem=row.get("stem"))


def format_table(rows: list[Row]) -> str:
    """Return the rows as an aligned table."""
    lines = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    heading, *body = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    return "\n".join([heading, "-" * (sum(widths) + 2 * (len(widths) - 1)), *body])


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m common.models",
        description="Print parameters, MACs and activations of the networks, compared with the published values.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks to print (default: all)")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in ARCHITECTURES]:
        parser.error(f"{', '.join(unknown)}: not a network of this project; choose from {', '.join(ARCHITECTURES)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the complexity table and the number of agreements; return the exit code."""
    names = parse_options(arguments).names or list(ARCHITECTURES)
    published = [row for row in load_published() if row["name"] in names]
    rows = [measure_row(config, image_size, published) for config, image_size in networks() if config.name in names]
    statuses = [row.status(name) for row in rows for name in UNITS]
    counts = {status: statuses.count(status) for status in (AGREES, DECLARED, DISAGREES)}
    num_published = sum(name in row for row in published for name in UNITS)
    assert sum(counts.values()) == num_published, "published.yaml has a network that is not in the complexity table"
    print(format_table(rows))
    print(f"\n{LEGEND}")
    print(
        f"Of {num_published} published values, {counts[AGREES]} agree to the last digit, {counts[DECLARED]} differ as"
        f" declared, {counts[DISAGREES]} disagree."
    )
    return 1 if counts[DISAGREES] else 0


if __name__ == "__main__":
    exit_with(main)
