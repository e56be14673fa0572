"""Lists of images and their labels: metadata.csv, .jsonl or .parquet, or a file of the user's."""

from pathlib import Path
from typing import Any, NamedTuple

from common.data.sources.list_files import read_list
from common.data.sources.listed_names import find_listed
from common.data.sources.listing import Listing
from common.data.sources.split_names import is_usual_name, split_role
from common.errors import UserError

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_FILE_COLUMN = "file_name"


class MetadataFile(NamedTuple):
    """A list of images with their labels."""

    path: Path
    table: Any
    """The pyarrow table; text and whole numbers as in the file, other words never taken for missing values."""
    file_column: str
    """Column with the images' paths relative to the folder of the file, or absolute."""


def find_metadata(root: Path, listing: Listing) -> list[Path]:
    """Return the metadata files of a folder: in it, in its folders, and in those of an only folder or of splits.

    The file names are tested one by one: a glob pattern would list every image of every class.
    """
    folders = [parent for parent in reversed(root.parents) if parent.is_relative_to(listing.root)] + [root]
    children, _ = listing.entries(root)
    for name in children:
        folders.append(root / name)
        if len(children) == 1 or is_usual_name(name) or split_role(name):
            folders += [root / name / inner for inner in listing.entries(root / name)[0]]
    listing.skipped.clear()
    found = []
    for folder in folders:
        for name in NAMES:
            try:
                if (folder / name).is_file():
                    found.append(folder / name)
            except OSError as error:
                raise UserError(
                    f"data.source: {folder / name} cannot be read ({error.strerror}). Make it readable."
                ) from error
    return found


def read_metadata(path: Path, listing: Listing, *, file_column: str | None) -> MetadataFile | None:
    """Read a metadata file; return None if it has no column of file names, and so belongs to another program.

    `listing` finds the images of the source whose names in the file do not say where they are (`find_listed`). `file_column` is
    data.image_column; none: `file_name`, in upper or lower case. Raise UserError if the file cannot be read.
    """
    import pyarrow

    table = read_list(path)
    wanted = file_column or next((name for name in table.column_names if name.lower() == _FILE_COLUMN), _FILE_COLUMN)
    if wanted not in table.column_names:
        return None
    if not len(table):
        raise UserError(f"data.source: the metadata file {path} lists no images. Add them, or remove it.")
    names = find_listed(table.column(wanted).to_pylist(), path, listing)
    index = table.column_names.index(wanted)
    return MetadataFile(path, table.set_column(index, wanted, pyarrow.array(names, pyarrow.string())), wanted)
