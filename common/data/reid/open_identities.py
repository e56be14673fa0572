"""Open the re-identification dataset of a `DataConfig`."""

from common.data.config import DataConfig, Layout
from common.data.images.decode import ImageDecoder
from common.data.reid import digit_identities
from common.data.reid.identities import IdentitySet
from common.data.reid.layouts import find_layout, read_layout
from common.data.sources.open_source import FOLDER_KEYS, reject_keys
from common.errors import UserError
from common.paths import user_path


def open_identities(config: DataConfig, decoder: ImageDecoder) -> IdentitySet | None:
    """Return the re-identification dataset of `config`; None if its source is a classification dataset."""
    path = user_path(config.source, "data.source")
    bundled, layout = config.source == digit_identities.SOURCE, _layout(config)
    if layout is None and not bundled:
        return None
    kind = "a re-identification dataset"
    reject_keys(
        config,
        kind,
        "revision",
        "config_name",
        "image_column",
        "label_column",
        "validation_split",
        "test_split",
        "group_column",
        "group_pattern",
        "unlabeled",
        *FOLDER_KEYS,
    )
    if config.train_split != "train":
        raise UserError(
            f"data.train_split is '{config.train_split}', but data.source '{config.source}' is {kind}. Remove the key."
        )
    if bundled:
        reject_keys(config, "bundled", "layout")
        return digit_identities.read_digit_identities(decoder)
    assert layout is not None
    if not path.is_dir():
        raise UserError(f"data.source '{config.source}' is not a folder, but data.layout '{layout}' requires one.")
    return read_layout(layout, path, decoder)


def is_identity_source(config: DataConfig) -> bool:
    """Return whether `config` names a re-identification dataset."""
    return config.source == digit_identities.SOURCE or _layout(config) is not None


def _layout(config: DataConfig) -> Layout | None:
    """Return the layout that the configuration names or that its folder has; None for the bundled identities and other data."""
    path = user_path(config.source, "data.source")
    bundled = config.source == digit_identities.SOURCE
    return config.layout or (find_layout(path) if path.is_dir() and not bundled and config.kind == "auto" else None)
