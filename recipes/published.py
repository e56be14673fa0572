"""Published weights that stand for a stage: fetched once, before the first run that starts from them."""

from collections.abc import Iterable

from common.errors import UserError
from recipes.plan import PlannedRun, write_value
from recipes.study import Study


def fetch_published(study: Study, runs: Iterable[PlannedRun]) -> None:
    """Fetch the weights that any of the runs starts from; raise one UserError, before anything runs, where that fails."""
    words = {word for run in runs for word in run.overrides}
    for stage in study.stages:
        if stage.published is None or f"init={write_value(stage.published.init)}" not in words:
            continue
        from common.models.weight_files import read_weights

        try:
            read_weights(stage.published.init)
        except UserError as error:
            raise UserError(
                f"{stage.name}.published: {stage.published.told} cannot be had here, and nothing was started. Give"
                f" {stage.name}.published=<a file of theirs>, or {stage.name}.published=none to train the stage instead.\n  {error}"
            ) from error
