"""Duplicates that the runs of a stored study recorded, as one small file: equal records are stored once."""

import json
from pathlib import Path

from common.files import path_exists
from common.json_text import to_json
from recipes.duplicate_record import read_record
from recipes.reports.duplicates import read_duplicates
from recipes.reports.results import StudyRecord
from recipes.result import RESULT

DUPLICATES = "duplicates.json"


def write_duplicates(study: StudyRecord) -> dict[str, str]:
    """Return duplicates.json: a list of records, each with the runs that have it; nothing if no run found a duplicate."""
    found = {name: record for name, run in study.runs.items() if (record := read_duplicates(run)) is not None}
    if all(record.is_empty for record in found.values()):
        return {}
    runs_by_record: dict[str, list[str]] = {}
    for name, record in found.items():
        runs_by_record.setdefault(to_json(record.to_result()), []).append(name)
    content = [{"runs": names, **json.loads(text)} for text, names in runs_by_record.items()]
    return {DUPLICATES: to_json(content, indent=1, ensure_ascii=False) + "\n"}


def restore_duplicates(stored: Path, folder: Path) -> None:
    """Write the stored records into the results of the runs in `folder`; raise ValueError for a file that is damaged."""
    path = stored / DUPLICATES
    if not path_exists(path):
        return
    try:
        for entry in json.loads(path.read_text(encoding="utf-8")):
            if (record := read_record(entry)) is None:
                raise LookupError("no entry `duplicates`")
            for name in entry["runs"]:
                result = folder / "runs" / name / RESULT
                content = json.loads(result.read_text(encoding="utf-8"))
                result.write_text(to_json({**content, **record.to_result()}), encoding="utf-8")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, FileNotFoundError) as error:
        raise ValueError(f"{DUPLICATES}: {error!r}") from error
