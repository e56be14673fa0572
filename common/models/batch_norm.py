"""What batch norm needs to train: more than one value of each channel."""

from torch import Tensor

from common.distributed import world_size
from common.errors import UserError


def check_batch(images: Tensor, reduction: int) -> None:
    """Raise UserError for a single image, in training, whose features have one position: of its sides divided by `reduction`."""
    if world_size() == len(images) == 1 and max(images.shape[-2:]) <= reduction:
        raise UserError(
            "train.batch_size: batch norm cannot train on 1 image this small, because its last features have 1 position;"
            " use at least 2 images (also in the last part of train.micro_batch_size), or increase data.image_size"
        )
