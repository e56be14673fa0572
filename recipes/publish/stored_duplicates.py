"""Duplicates that the runs of a stored study recorded, as one small file: equal records are stored once."""

import json
from pathlib import Path
from typing import Any

from common.files import path_exists
from common.json_text import to_json
from recipes.reports.duplicates import PAIRS, read_duplicates
from recipes.reports.results import StudyRecord
from recipes.result import RESULT

DUPLICATES = "duplicates.json"


def write_duplicates(study: StudyRecord) -> dict[str, str]:
    """Return duplicates.json: a list of records, each with the runs that have it; nothing if no run found a duplicate."""
    records: dict[str, tuple[dict[str, Any], list[str]]] = {}
    is_found = False
    for name, run in study.runs.items():
        record = read_duplicates(run)
        if record is not None:
            entries = [record.get("/".join(pair)) or {} for pair in PAIRS]
            is_found |= bool(record.get("label_conflicts")) or any(e.get("exact") or e.get("near") for e in entries)
            records.setdefault(to_json(record, sort_keys=True), (dict(record), []))[1].append(name)
    content = [{"runs": names, **record} for record, names in records.values()]
    return {DUPLICATES: to_json(content, indent=1, ensure_ascii=False) + "\n"} if is_found else {}


def restore_duplicates(stored: Path, folder: Path) -> None:
    """Write the stored records into the results of the runs in `folder`."""
    path = stored / DUPLICATES
    for record in json.loads(path.read_text(encoding="utf-8")) if path_exists(path) else ():
        names, sizes = record.pop("runs"), record.pop("splits")
        for name in names:
            result = folder / "runs" / name / RESULT
            content = json.loads(result.read_text(encoding="utf-8"))
            result.write_text(to_json({**content, "duplicates": record, "splits": sizes}), encoding="utf-8")
