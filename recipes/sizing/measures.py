"""Costs of the recipes that a sizing chooses among, and rates measured on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from recipes.sizing.facts import MEASURED, ImageFacts
from recipes.sizing.gpu_process import Call, call_here
from recipes.sizing.machine import Machine, Rate, lack_of_memory, measure_rate
from recipes.stages import FINETUNE, cost_function, load_config
from recipes.study.plan import format_value


@dataclass(frozen=True)
class RecipeMeasures:
    """`size.Measures` of a study's recipes; rates are measured once for each network and size, those in `rates` are known."""

    recipes: Mapping[str, tuple[str, Path]]
    """Module and recipe by stage."""
    settings: Mapping[str, Any]
    """Keys of the command line for every stage."""
    facts: ImageFacts
    machine: Machine
    rates: dict[str, float] = field(default_factory=dict)
    """MACs per second by network, patch and size."""
    busy: dict[str, str] = field(default_factory=dict)
    """Load of the machine in words, by the name of a rate that was measured while it was busy."""
    call: Call = call_here
    """Calls the measurement, on a GPU in a process of its own."""
    print_line: Callable[[str], None] = print
    """Prints what is measured, as it begins."""

    def macs(self, stage: str, settings: Mapping[str, Any]) -> float:
        """Return the MACs for an image in an epoch of a stage."""
        module, recipe = self.recipes[stage]
        return _macs(module, recipe, self._overrides(settings), len(self.facts.class_counts))

    def rate(self, settings: Mapping[str, Any], batch_size: int) -> float:
        """Return the MACs per second of a run that trains the network of `settings`."""
        _, recipe = self.recipes[FINETUNE]
        config = _config(FINETUNE, recipe, self._overrides(settings))
        model, size = config.model, config.data.image_size
        name = f"{model.name} patch {model.patch_size} at {size} px, batch {batch_size}"
        name += f", {config.data.channels} channels" if config.data.channels != 3 else ""
        name += ", class token only" if config.train.class_token_only else ""
        if name not in self.rates:
            channels = config.data.channels
            self.print_line(f"measuring the throughput of {name}")
            memory = (
                f"training {name} needs more memory than {self.machine.name} has free. Free some, or set"
                f" pretrain.train.batch_size or finetune.train.batch_size to less than {batch_size}."
            )
            with lack_of_memory(memory):
                rate: Rate = self.call(
                    measure_rate,
                    self.machine,
                    model,
                    image_size=size,
                    batch_size=batch_size,
                    channels=channels,
                    class_token_only=config.train.class_token_only,
                )
            if rate.load is not None and rate.load.is_busy:
                self.busy[name] = rate.load.describe()
            self.rates[name] = float(
                f"{rate.macs_per_second:.4g}"
            )  # as it is written, so that the same file gives the same study
        return self.rates[name]

    def _overrides(self, settings: Mapping[str, Any]) -> tuple[str, ...]:
        """Return settings as overrides of a recipe, on top of those of the command line about the images."""
        own = {key: value for key, value in self.settings.items() if key.startswith("data.")}
        return tuple(f"{key}={format_value(value)}" for key, value in {**MEASURED, **own, **settings}.items())


@cache
def _config(module: str, recipe: Path, overrides: tuple[str, ...]) -> Any:
    """Return a recipe, with the network of its weights."""
    from common.models.init_network import follow_init

    return follow_init(load_config(module, recipe, overrides), fetch=False)


@cache
def _macs(module: str, recipe: Path, overrides: tuple[str, ...], num_classes: int) -> float:
    """Return the MACs for an image of a recipe."""
    function, config = cost_function(module), _config(module, recipe, overrides)
    sizes = {"num_classes": num_classes} if module == FINETUNE else {}
    macs: float = function(config, num_images=config.train.batch_size, **sizes).macs_per_image
    return macs
