"""The images of a training run: opened, compared with those it began with, and recorded."""

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.splits.fingerprint import check_data, save_data
from common.data.splits.roles import Splits
from common.training.run import Run


def open_images(config: DataConfig, run: Run, *, labeled: bool) -> Splits:
    """Return the images of a run, with labels if `labeled`; raise UserError if they are not those it began with."""
    splits = open_splits(config, labeled=labeled)
    data = run.process_group.read(lambda: check_data(splits, run.folder))
    run.write_once_accepted(run.folder, lambda: save_data(data, splits, run.folder))
    return splits
