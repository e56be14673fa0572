"""Finished runs whose images or labels have changed since: a run is known by its recipe and its data, not by its recipe alone."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from common.files import path_exists
from recipes.run.states import read_state
from recipes.stages import find_stage, load_config
from recipes.study.display import display_path
from recipes.study.plan import PlannedRun

if TYPE_CHECKING:
    from common.data.config import DataConfig
    from common.data.sources.source import Source
    from common.data.sources.split import Split

_logger = logging.getLogger(__name__)

_SUBSET = {"fraction": 1.0, "images_per_class": None, "subset_seed": 0, "subset_file": None}
_NO_NUMBER = {"verify": "none", "workers": 0, "image_size": 32}
"""Values of keys that change no fingerprint, so that runs that differ in them are compared once."""


def check_images(runs: Sequence[PlannedRun], places: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """Return `places`, without the finished runs of neighboring studies that were made from other images than there are now.

    Raise UserError if finished runs of the study in `folder` were: one report must not mix two data sets.
    """
    changed = stale_runs(runs, places)
    own = {name: lines for name, lines in changed.items() if places[name].parent.parent == folder}
    if own:
        name, lines = next(iter(own.items()))
        raise UserError(
            f"data.source: the images or labels are not those from which {len(own)} finished runs of {display_path(folder)} were"
            f" made, such as {name}. Restore them, choose another --out to run the study on the new ones, or delete the folders of"
            " these runs to run them again.\n" + "\n".join(f"  {line}" for line in lines)
        )
    for name in changed:
        _logger.warning("%s has other images than %s has now, and is run again", places[name], name)
    return {name: folder / "runs" / name if name in changed else place for name, place in places.items()}


def stale_runs(runs: Sequence[PlannedRun], places: Mapping[str, Path]) -> dict[str, list[str]]:
    """Return what differs between the images of each finished run and those that its recipe names now; only runs that differ."""
    from common.data.splits.fingerprint import DATA_FILE, differences, read_fingerprint

    images, changed = _Images(), dict[str, list[str]]()
    for run in runs:
        folder = places[run.id]
        if not path_exists(folder / DATA_FILE) or read_state(folder) != "done":
            continue
        config = load_config(run.module, Path(run.recipe), run.overrides)
        saved, current = (
            read_fingerprint(folder / DATA_FILE),
            images.fingerprint(config.data, labeled=find_stage(run.module).labeled),
        )
        if saved is not None and current is not None and (lines := differences(saved, current)):
            changed[run.id] = lines
    return changed


class _Images:
    """Fingerprints of the images of many runs: each source is opened once, and each of its splits is read once."""

    def __init__(self) -> None:
        self._sources: dict[DataConfig, Source | None] = {}
        self._fingerprints: dict[DataConfig, tuple[dict[str, Any] | None, dict[str, Any] | None]] = {}

    def fingerprint(self, data: "DataConfig", *, labeled: bool) -> dict[str, Any] | None:
        """Return the fingerprint that a run with this section `data` would have; None if its images cannot be read now.

        `labeled`: the run leaves out images without a label.
        """
        from common.data.open_splits import open_splits
        from common.data.splits.fingerprint import describe_data

        key = data.model_copy(update=_NO_NUMBER)
        if key not in self._fingerprints:
            try:
                splits = open_splits(key, labeled=False, source=self._source(data), decodes=False)
                whole, part = describe_data(splits), splits.without_unlabeled()
                self._fingerprints[key] = whole, whole if part is splits else describe_data(part)
            except UserError as error:
                _logger.warning(
                    "the images of finished runs cannot be compared with those they were made from: %s", error
                )
                self._fingerprints[key] = None, None
        return self._fingerprints[key][int(labeled)]

    def _source(self, data: "DataConfig") -> "Source | None":
        """Return the open source of a section `data`; none for data sets of identities."""
        from common.data.config import build_decoder
        from common.data.reid.open_identities import is_identity_source
        from common.data.sources.open_source import open_source

        key = data.model_copy(update={**_NO_NUMBER, **_SUBSET})
        if key not in self._sources:
            decoder = build_decoder(data)
            self._sources[key] = None if is_identity_source(data) else _ReadOnce(open_source(data, decoder))
        return self._sources[key]


class _ReadOnce:
    """A source whose splits are read once."""

    def __init__(self, source: "Source") -> None:
        self.title, self._source = source.title, source
        self._splits: dict[tuple[str, bool], Split] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return self._source.names()

    def read(self, name: str, *, labeled: bool) -> "Split":
        """Return split `name`, as it was read first."""
        if (name, labeled) not in self._splits:
            self._splits[name, labeled] = self._source.read(name, labeled=labeled)
        return self._splits[name, labeled]
