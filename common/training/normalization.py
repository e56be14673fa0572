"""Normalization of a run with data.mean and data.std measured: by its own images, or as the run that its weights are from.

The numbers are kept in data.json, so that a run that resumes has the same ones, and in the export.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from common.config import Config
from common.data.config import MEASURED, DataConfig, Statistics
from common.data.splits.channel_statistics import measure_channels
from common.data.splits.fingerprint import DATA_FILE, read_fingerprint
from common.data.splits.roles import Splits
from common.models.init_normalization import normalization_of_own
from common.models.weight_files import find_local_weights

if TYPE_CHECKING:
    from common.training.run import Run

_log = logging.getLogger(__name__)

FACT = "normalization"
"""Entry of data.json and of result.json."""
AnyConfig = TypeVar("AnyConfig", bound=Config)


def find_normalization(
    config: DataConfig, splits: Splits, init: str | None, folder: Path, *, resumes: bool
) -> dict[str, Any]:
    """Return the entry of data.json, or {} if the configuration has numbers: mean, std and where they are from.

    They are those that the run in `folder` began with, if it `resumes`; otherwise those of the run that the weights `init` are
    from, if it has as many channels; otherwise measured.
    """
    if config.mean != MEASURED:
        if init is not None and not resumes:
            _warn_of_other(config, init)
        return {}
    saved = read_fingerprint(folder / DATA_FILE) if resumes else None
    if saved is not None and FACT in saved:
        return {FACT: saved[FACT]}
    found = normalization_of(init) if init is not None else None
    if found is not None and len(found[0]) == config.channels:
        _log.info("data: mean %s and std %s of %s", *map(list, found), init)
        return {FACT: {"mean": list(found[0]), "std": list(found[1]), "of": init}}
    measured = measure_channels(splits.train)
    _log.info(
        "data: mean %s and std %s measured on %d training images, whose values lie between %g and %g of the range from 0 to 1"
        " (0.1%% and 99.9%%)",
        list(measured.mean),
        list(measured.std),
        measured.num_images,
        measured.low,
        measured.high,
    )
    return {FACT: {"mean": list(measured.mean), "std": list(measured.std), "images": measured.num_images}}


def _warn_of_other(config: DataConfig, init: str) -> None:
    """Log a warning if the run of the weights `init` normalized its images with other numbers than this one."""
    found, own = normalization_of(init), tuple(map(tuple, config.statistics()))
    if found is not None and found != own and len(found[0]) == config.channels:
        _log.warning(
            "data: warning: %s was trained on images with mean %s and std %s, this run normalizes with %s and %s. Set data.mean and"
            " data.std to those of the weights",
            init,
            *map(list, (*found, *own)),
        )


def with_normalization(config: AnyConfig, run: "Run") -> AnyConfig:
    """Return the config of a stage whose data.mean and data.std are the numbers of the run, once its images are open."""
    data: DataConfig = config.data  # type: ignore[attr-defined]
    if data.mean != MEASURED:
        return config
    found = run.data_facts[FACT]
    numbers = {"mean": tuple(found["mean"]), "std": tuple(found["std"])}
    return config.model_copy(update={"data": data.model_copy(update=numbers)})


def normalization_of(init: str) -> Statistics | None:
    """Return the normalization of the run whose export or checkpoint `init` names, or None."""
    path = find_local_weights(init)
    found = None if path is None else normalization_of_own(path)
    return None if found is None else (tuple(found["mean"]), tuple(found["std"]))
