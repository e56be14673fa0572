"""Open the set for re-identification that a recipe names."""

import logging

from common.data.config import DataConfig
from common.data.reid import digit_identities
from common.data.reid.identities import IdentitySet
from common.data.reid.layouts import find_layout, read_layout
from common.data.sources.open_source import refuse_keys
from common.errors import UserError
from common.paths import user_path

_log = logging.getLogger(__name__)

_HUB_ID = r"[\w.-]+(/[\w.-]+)?"


def open_identities(config: DataConfig) -> IdentitySet | None:
    """Return the set for re-identification that `config` names; none where it names images of classes."""
    path = user_path(config.source, "data.source")
    embedded = config.source == digit_identities.SOURCE
    layout = config.layout or (find_layout(path) if path.is_dir() and not embedded else None)
    if layout is None and not embedded:
        return None
    kind = "a set for re-identification"
    refuse_keys(
        config, kind, "revision", "config_name", "image_column", "label_column", "validation_split", "test_split"
    )
    if config.train_split != "train":
        raise UserError(
            f"data.train_split is '{config.train_split}', but data.source '{config.source}' is {kind}. Leave the key out."
        )
    if embedded:
        refuse_keys(config, "embedded", "layout")
        return digit_identities.read_digit_identities()
    assert layout is not None
    if not path.is_dir():
        raise UserError(f"data.source '{config.source}' is no folder, and data.layout '{layout}' lies in one.")
    return read_layout(layout, path)
