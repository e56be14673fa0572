"""JSON schemas of recipes, studies and scales, which editors use to complete and check keys: `python -m recipes schema`.

A file names its schema in its first comment: `# yaml-language-server: $schema=../schemas/finetune.json`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.config_help import file_schema, recipe_schema
from common.files import write_atomic
from recipes.stages import recipe_classes
from recipes.study.scales import ScaleFile
from recipes.study.study_sections import StudyFile


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, schema): one for the recipes of each stage, one for studies, one for scales."""
    for name, cls in recipe_classes().items():
        yield name, recipe_schema(cls)
    yield "study", file_schema(StudyFile)
    yield "scale", file_schema(ScaleFile)


def write_schemas(folder: Path) -> list[Path]:
    """Write every schema to `folder`; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, schema in schemas():
        files.append(folder / f"{name}.json")
        write_atomic(files[-1], json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
    return files
