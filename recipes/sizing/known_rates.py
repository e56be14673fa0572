"""Rates of a machine in sizing.yaml of a study's folder, so that the same command makes the same study."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from common.files import write_atomic
from common.yaml_text import dump_yaml, read_yaml
from common.yaml_words import as_text, as_value
from recipes.sizing.machine import Machine

FILE = "sizing.yaml"
HEADER = """\
# MACs per second of one run, by network, on the machine named here. The same command sizes the study with them again; without this
# file, or on another machine, they are measured anew; so are those under `busy`, until the first run has started.
"""


@dataclass(frozen=True)
class KnownRates:
    """Rates of a machine, and the load under which some of them were measured (`RecipeMeasures`)."""

    rates: dict[str, float] = field(default_factory=dict)
    busy: dict[str, str] = field(default_factory=dict)
    bf16_ratio: float | None = None
    """`Machine.bf16_ratio` with which they were measured."""


def read_rates(folder: Path, machine: Machine) -> KnownRates:
    """Return the rates that were measured on this machine before, or none.

    Those of a busy machine are measured again, unless the study in `folder` has started: its runs follow from them.
    """
    try:
        content = read_yaml((folder / FILE).read_text(encoding="utf-8"))
        rates = {as_text(name): float(as_value(rate)) for name, rate in content["rates"].items()}
        busy = {as_text(name): as_text(load) for name, load in (content.get("busy") or {}).items()}
        ratio = content.get("bf16_ratio")
        ratio = None if ratio is None else float(as_value(ratio))
        has_started = any(path.name != FILE for path in folder.iterdir())
        if as_text(content["machine"]) != machine.describe() or (ratio is None and machine.device != "cpu"):
            return KnownRates()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return KnownRates()
    if has_started:
        return KnownRates(rates, busy, ratio)
    return KnownRates({name: rate for name, rate in rates.items() if name not in busy}, bf16_ratio=ratio)


def write_rates(folder: Path, machine: Machine, known: KnownRates) -> None:
    """Write the rates of a machine into the folder of a study; everything else follows from them, the images and the study."""
    folder.mkdir(parents=True, exist_ok=True)
    busy = {"busy": known.busy} if known.busy else {}
    ratio = {} if known.bf16_ratio is None else {"bf16_ratio": known.bf16_ratio}
    content = {"machine": machine.describe(), **ratio, "rates": known.rates, **busy}
    write_atomic(folder / FILE, HEADER + dump_yaml(content), concurrent_writers=True)
