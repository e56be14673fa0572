"""Owns how a training run comes to its images: opened, held against those it began with, and written down."""

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.splits.fingerprint import check_data, save_data
from common.data.splits.roles import Splits
from common.training.run import Run


def open_images(config: DataConfig, run: Run, *, labelled: bool) -> Splits:
    """Return the images of a run, with labels where `labelled` asks for them; raise UserError for others than it began with."""
    splits = open_splits(config, labelled=labelled)
    data = run.agreement.read(lambda: check_data(splits, run.folder))
    run.write_once_accepted(run.folder, lambda: save_data(data, splits, run.folder))
    return splits
