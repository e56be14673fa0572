"""The images of a run, opened again from its recipe for the pictures of a report: nothing is downloaded, verified or cached.

torch and the data packages are imported only when a picture is made.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from common.errors import UserError
from common.files import path_exists
from common.yaml_text import read_dumped, reason_of
from recipes.reports.results import RunRecord
from recipes.study.downloads import without_downloads

if TYPE_CHECKING:
    from common.data.splits.roles import Splits

CONFIG = "config.yaml"


def read_recipe(run: RunRecord) -> Mapping[str, Any]:
    """Return the content of a run's config.yaml; raise UserError if there is none with a data source."""
    path = run.folder / CONFIG
    try:
        content = read_dumped(path.read_text(encoding="utf-8")) if path_exists(path) else None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{CONFIG} of {run.planned.id} is not the recipe of a run ({reason_of(error)})") from error
    if not isinstance(content, dict) or not isinstance(content.get("data"), dict) or not content["data"].get("source"):
        raise UserError(f"{CONFIG} of {run.planned.id} names no data.source")
    return content


def load_config(run: RunRecord) -> Any:
    """Return a run's recipe as the config of its stage; raise UserError if it is not one of this version."""
    from common.config import load
    from recipes.stages import config_class

    return load(config_class(run.planned.module), run.folder / CONFIG)


def open_run_splits(data: Any, *, labeled: bool) -> "Splits":
    """Return the splits of the section `data` of a run's config, with the images in the run's order.

    Images that a run excludes (on_corrupt=skip, duplicates=drop) are among them: finding those takes decoding all. Raise UserError
    if the source is gone, or if only a download would bring it.
    """
    from common.data.open_splits import open_splits

    all_images = data.model_copy(update={"on_corrupt": "stop", "duplicates": "ignore"})
    with without_downloads(data.source):
        return open_splits(all_images, labeled=labeled, decodes=False)
