"""Configuration of the data: source, splits, label subset, decoding, loading."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from common.config import Config, default_of
from common.config_messages import Otherwise
from common.config_types import AtLeastOne, Positive
from common.data.images.decode import DEFAULT_MAX_PIXELS, PILLOW_MAX_MEGAPIXELS, ImageDecoder
from common.data.images.stored_pixels import Pages
from common.sizes import MAX_SIDE, height_and_width

Layout = Literal["market1501", "msmt17"]
Kind = Literal["auto", "class_folders", "split_folders", "metadata", "tables", "webdataset", "images"]
MAX_CHANNELS = 512
"""Most channels of an image, OpenCV's limit."""
_CorruptFraction = Annotated[
    float, Field(ge=0, lt=1), Otherwise("must be at least 0 and below 1: it is a fraction of the images")
]
_Megapixels = Annotated[
    int,
    Field(ge=1, le=PILLOW_MAX_MEGAPIXELS),
    Otherwise(f"must be between 1 and {PILLOW_MAX_MEGAPIXELS}, Pillow's limit"),
]
_Mean = Annotated[float, Field(ge=0, le=1), Otherwise("must be between 0 and 1, the range of the scaled pixel values")]
_Deviation = Annotated[
    float, Field(ge=1e-7, le=1e3), Otherwise("must be between 1e-7 and 1000, for pixel values in [0, 1]")
]
_Channels = Annotated[
    int,
    Field(ge=1, le=MAX_CHANNELS),
    Otherwise(f"is not a number of channels; use 1 for gray, 3 for RGB, up to {MAX_CHANNELS}"),
]
MEASURED: Literal["measured"] = "measured"
"""Value of data.mean and data.std that stands for those of the training images."""
Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of every channel, for pixel values in [0, 1]."""


class DataConfig(Config):
    """Keys of the recipe section `data`."""

    source: str = "digits"
    """Dataset: 'digits' or 'digits_identities' (bundled), an image folder, a parquet or arrow file, a tar shard (webdataset), a
    folder or glob pattern of such files, addresses of tar shards on a server, a folder written by `save_to_disk`, or the id of a
    dataset on the Hugging Face Hub."""
    kind: Kind = "auto"
    """What a folder is read as. auto: by its content. class_folders: its folders are the classes, whatever their names.
    split_folders: its folders are splits. metadata: a list beside the images has the labels. tables: parquet or arrow files.
    webdataset: tar shards, also without labels. images: all images in it, without labels."""
    metadata_file: str | None = None
    """List of the images and their labels (csv, jsonl or parquet), relative to `source`; none: metadata.csv, metadata.jsonl or
    metadata.parquet, if there is one. Its column of file names is `file_name`, or `image_column`."""
    leave_out: tuple[str, ...] = ()
    """Names of files and folders of an image folder that are left out, with wildcards: [annotations, '*_mask.png']."""
    layout: Layout | None = None
    """Layout of a re-identification dataset; none: detected from its folders or list files."""
    revision: str | None = None
    """Branch, tag or commit of a Hub dataset; none: its main branch."""
    config_name: str | None = None
    """Configuration name of a Hub dataset that has several configurations."""
    stage_to: str | None = None
    """Folder on a disk of the node (each node's own) to which tar shards and arrow files are copied once before they are read, and
    into which large parquet files are unpacked; shards on a server are copied when training or an evaluation of at least half of a
    split reaches them. none: shards are read where they are. It changes no number."""
    stage_gigabytes: Positive | None = None
    """Size that the copies of a server's shards in `stage_to` do not exceed, in 10^9 bytes: those that were read longest ago are
    removed, and while all are in use, images of further shards are requested from the server. Training then needs
    `train.shuffle_shards`. none: all copies are kept."""
    train_split: str = "train"
    """Name of the training split."""
    validation_split: str | None = None
    """Name of the validation split; none: found by its usual names, else held out from the training images."""
    test_split: str | None = None
    """Name of the test split, evaluated once after training; none: found by its usual names, else held out."""
    image_column: str | None = None
    """Image column of a table, or column of the file names in a list; none: the only column that holds images, or `file_name`."""
    label_column: str | None = None
    """Label column of a table or a list, in tar shards the extension or the key of .json that holds the label; none: found by its
    name, its type and its values."""
    group_column: str | None = None
    """Column of a table, or of the metadata beside images, with the group of each image (patient, site, camera): all images of a
    group are held out together. none: any image may be held out."""
    group_pattern: str | None = None
    """Regular expression that finds the group of an image in its path relative to the folder of its split, instead of a column; its
    one group in parentheses is the name: '(patient[0-9]+)_'."""
    unlabeled: Literal["auto", "pretrain", "ignore"] = "auto"
    """What images without a label are for, where others have one. auto: those in a folder or split called `unlabeled` (no_label,
    unsupervised, ...) are training images of pre-training only; anywhere else a missing label is an error where labels are needed.
    pretrain: so are rows without a label, images outside of class folders and, with a metadata file, images that it does not list.
    ignore: none of them is used. Both stages hold out labeled images alone. Label subsets leave out no image without a label."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1), Otherwise("must be at least 0 and below 1")] = 0.1
    """Fraction of each class's training images that is held out for validation if there is no validation split, of those that are
    not held out for testing; 0 holds out none. For re-identification: fraction of the training identities."""
    test_fraction: Annotated[float, Field(ge=0, lt=1), Otherwise("must be at least 0 and below 1")] = 0.2
    """Fraction of each class's training images that is held out for testing if there is no test split; 0 holds out none."""
    split_seed: int = 0
    """Seed of the hold-outs. Both stages must use the same seed: otherwise pre-training sees the fine-tuning stage's test
    images."""
    fraction: Annotated[float, Field(gt=0, le=1), Otherwise("must be above 0 and at most 1")] = 1.0
    """Fraction of each class's training images that is used, in (0, 1]."""
    images_per_class: AtLeastOne | None = None
    """Number of training images per class, instead of a fraction."""
    subset_seed: int = 0
    """Seed of the subset. Subsets of the same seed are nested: a smaller one is contained in every larger one."""
    subset_file: str | None = None
    """Published list of training images, one file name per line, or the subset.json of another run, instead of a fraction."""
    image_size: int | tuple[int, int] = 224
    """Input size of the network in pixels: the side of square images, or [height, width]."""
    channels: _Channels = 3
    """Channels of an image. 3: RGB, gray is repeated, alpha is composited on white. 1: gray, of colors their luma. Another number:
    all channels of files that have as many (TIFF, NumPy arrays, DICOM), as they are stored."""
    bit_depth: Literal[8, 16] = 8
    """Bits of a channel that are kept: 8, to which 16 are scaled, or 16, to which 8 are. Both are the range from 0 to 1 for
    normalization."""
    value_range: tuple[float, float] | None = None
    """Stored values [low, high] that become 0 and 1, values beyond them are clipped: [0, 4095] for 12 bits, [-160, 240] for a
    window of CT. none: the full range of 8 or 16 bits, in DICOM the file's own window or range; floating-point and signed values
    are then refused."""
    pages: Pages = "first"
    """What the pages of a TIFF and the frames of a DICOM image are. first: only the first counts. channels: they are the channels
    of one image, data.channels together."""
    mean: _Mean | tuple[_Mean, ...] | Literal["measured"] = (0.485, 0.456, 0.406)
    """Mean of each channel that normalization subtracts, for pixel values in [0, 1]; one number is that of all. measured: mean and
    standard deviation of the training images (a sample of 2,000 if there are more), or those of `init` if it is a run; data.json
    has the numbers."""
    std: _Deviation | tuple[_Deviation, ...] | Literal["measured"] = (0.229, 0.224, 0.225)
    """Standard deviation of each channel that normalization divides by, for pixel values in [0, 1]; one number is that of all. Or
    measured, with `mean`."""
    workers: (
        Annotated[int, Field(ge=0, le=1024), Otherwise("must be at least 0 and at most 1024")] | Literal["auto"]
    ) = "auto"
    """Data loader worker processes per training process; 0 loads in the training process. auto: on a GPU the cores of the process
    less one, at most 16 and at most one for each 256 MiB of shared memory (2 where it has less than 512); on a CPU 2. The same
    number of threads decodes images before training (auto: the cores, at most 16); images smaller than 48 x 48 pixels are decoded
    by a single thread."""
    verify: Literal["auto", "all", "sample", "none"] = "auto"
    """Which images are decoded before training to find corrupt ones: all, a sample of 1,000, none, or auto: all if there are
    at most 20,000, otherwise a sample."""
    cache_megabytes: Annotated[int, Field(ge=0, le=2**30), Otherwise(f"must be at least 0 and at most {2**30}")] = 1024
    """Memory for decoded images, in MiB, of all splits together. A split that fits into what is left is decoded once, before
    training. 0 disables the cache. Parquet tables that unpack to at most as much are read into memory, larger ones are unpacked
    once, into a cache on a disk."""
    on_corrupt: Literal["stop", "skip"] = "stop"
    """How corrupt images are handled. stop: the run ends with an error that names them. skip: a corrupt training image is
    replaced by another training image, drawn from the seed, with that image's label; all validation and test images are
    decoded before training, whatever `data.verify` is, and corrupt ones are excluded. result.json reports both."""
    max_corrupt: _CorruptFraction = 0.01
    """Largest fraction of the training, validation or test images that may be corrupt with on_corrupt=skip, in [0, 1). The run
    stops with an error if more are corrupt."""
    duplicates: Literal["auto", "warn", "drop", "ignore"] = "auto"
    """What is done about images that are in two of the training, validation and test images: with the same content, or nearly the
    same (resized, recompressed, mirrored). warn: they are counted and named in the log, data.json and result.json. drop: training
    images with a duplicate in validation or test are excluded; set it in both stages. auto: as warn, within limits that keep the
    start short: contents of at most 100,000 images and 2 GiB, near duplicates of at most 20,000 images, if they are in memory
    (`cache_megabytes`) or have at most 256 MiB. ignore: only contents are compared, within the same limits."""
    init_overlap: Literal["refuse", "allow"] = "refuse"
    """What a supervised run does if more than 1% of its test images are among those that the weights `init` were trained on, as
    where pre-training had other hold-outs: refuse, or allow, which result.json reports as `init_overlap`. It is known for weights
    of runs with `data.duplicates` within its limits."""
    max_megapixels: _Megapixels = DEFAULT_MAX_PIXELS // 10**6
    """Size limit of an image, in millions of pixels. An image whose header declares more is treated as corrupt and is not
    decoded: a file of a few kilobytes can decompress to gigabytes, and every worker holds 3 bytes per pixel."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, problem and allowed values) of every invalid field."""
        if not self.source.strip():
            yield "source", "must not be empty; set it to 'digits', a folder, a parquet file or a Hub dataset id"
        if self.group_pattern is not None:
            yield from self._pattern_problems(self.group_pattern)
        subset_keys = [self.fraction != 1, self.images_per_class is not None, self.subset_file is not None]
        if sum(subset_keys) > 1:
            yield "fraction", "fraction, images_per_class and subset_file are mutually exclusive; set only one of them"
        if not all(1 <= side <= MAX_SIDE for side in height_and_width(self.image_size)):
            yield (
                "image_size",
                f"{self.image_size} must be at least 1 and at most {MAX_SIDE} pixels; set a side, or [height, width]",
            )

        if self.stage_gigabytes is not None and self.stage_to is None:
            yield (
                "stage_gigabytes",
                f"{self.stage_gigabytes:g} limits the copies in data.stage_to; set data.stage_to, too",
            )
        yield from self._channel_problems()

    def _channel_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, problem and allowed values) of mean, standard deviation and range of the channels."""
        if (self.mean == MEASURED) != (self.std == MEASURED):
            yield "mean", "mean and std are measured together; set both to measured, or both to numbers"
        for name in ("mean", "std"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) != self.channels:
                yield (
                    name,
                    f"{list(values)} has {len(values)} values, but data.channels is {self.channels}; set one for each channel, or"
                    " data.mean=measured data.std=measured",
                )
        if self.value_range is not None and not self.value_range[0] < self.value_range[1]:
            yield "value_range", f"{list(self.value_range)} is empty; set [low, high] with low < high"

    def describe_images(self) -> dict[str, Any]:
        """Return the keys that say what the values of an image are, for exports; {} for RGB of 8 bits as in any image file."""
        keys = ("channels", "bit_depth", "value_range", "pages")
        if all(getattr(self, key) == default_of(DataConfig, key) for key in keys):
            return {}
        return {key: getattr(self, key) for key in keys}

    def statistics(self) -> Statistics:
        """Return mean and standard deviation, which must have been measured (`common.training.normalization`)."""
        mean, std = ((value,) * self.channels if isinstance(value, float) else value for value in (self.mean, self.std))
        assert mean != MEASURED and std != MEASURED, "replace them by those of the run"
        return mean, std

    def _pattern_problems(self, pattern: str) -> Iterator[tuple[str, str]]:
        """Yield (field, problem and allowed values) of the regular expression of the groups."""
        if self.group_column is not None:
            yield "group_pattern", "group_column and group_pattern are mutually exclusive; set only one of them"
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            yield "group_pattern", f"'{pattern}' is not a regular expression ({error}); correct it"
            return
        if groups != 1:
            yield (
                "group_pattern",
                f"'{pattern}' has {groups} groups in parentheses; put exactly one around the name, (?:...) around others",
            )


def build_decoder(config: DataConfig) -> ImageDecoder:
    """Return the decoder of the images, with their size limit, channels and depth."""
    return ImageDecoder(
        max_pixels=config.max_megapixels * 10**6,
        channels=config.channels,
        bits=config.bit_depth,
        value_range=config.value_range,
        pages=config.pages,
    )
