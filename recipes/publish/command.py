"""`python -m recipes publish`: stores a study's results under docs/results/, and writes blocks and figures of the documents."""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from common.errors import UserError, did_you_mean
from common.figures import Figure
from common.files import write_atomic
from recipes.publish.documents import blocks_in, fill_blocks, find_documents
from recipes.publish.figure_files import figure_file, is_current, render_figure
from recipes.publish.origin import Origin
from recipes.publish.parts import parts_of
from recipes.publish.stored_study import restored, store_study
from recipes.reports.comparison.figures import comparison_figures
from recipes.reports.replication.figures import table_figures
from recipes.reports.replication.page import TablePage
from recipes.reports.report import Report, page_of
from recipes.reports.results import StudyRecord, read_study
from recipes.reports.same_images import check_same_images
from recipes.study.folder_names import images_of_sized
from recipes.study.kept_levels import name_of_part
from recipes.study.specification import Study

FIGURE, CAPTION = "figure:", "caption:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class PublishedStudy:
    """A stored study with its report."""

    name: str
    study: StudyRecord
    origin: Origin

    @cached_property
    def page(self) -> Report:
        """Return the content of the report, computed by the present code."""
        return page_of(self.study)

    @cached_property
    def figures(self) -> dict[str, tuple[Figure, str]]:
        """Return figure and caption by name."""
        found = table_figures(self.page) if isinstance(self.page, TablePage) else comparison_figures(self.page)
        return {name: (figure, caption) for name, figure, caption in found}

    def text(self, part: str, document: Path, root: Path) -> str:
        """Return a part as Markdown; links are relative to the document."""
        for prefix in (FIGURE, CAPTION):
            if part.startswith(prefix):
                name = part.removeprefix(prefix)
                if name not in self.figures:
                    raise _unknown(document, self.name, part, [prefix + each for each in self.figures])
                caption = self.figures[name][1]
                place = os.path.relpath(figure_file(root, self.name, name), document.parent)
                return f"![{caption}]({Path(place).as_posix()})" if prefix == FIGURE else f"*{caption}*"
        parts = parts_of(self.page, self.origin)
        if part not in parts:
            raise _unknown(document, self.name, part, [*parts, *(FIGURE + each for each in self.figures)])
        return parts[part]()


def results_folder(root: Path) -> Path:
    """Return the folder of the stored studies."""
    return root / "docs" / "results"


def store(folder: Path, root: Path, name: str | None, note: str) -> Path:
    """Store the results of the study in `folder`; raise UserError if its report cannot be made from them. Return where they are."""
    study = read_study(folder)
    check_same_images(study)
    name = name or default_name(study.plan.study)
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name}: must be letters, digits, and `_`, `-` and `.` after the first.")
    with TemporaryDirectory() as temporary:
        store_study(study, Path(temporary), note)
        with restored(Path(temporary)) as (again, origin):
            ours, theirs = parts_of(page_of(study), origin), parts_of(page_of(again), origin)
            if different := [part for part in ours if ours[part]() != theirs[part]()]:
                raise UserError(
                    f"{folder}: its report depends on files of the run folders that are not stored (for {', '.join(different)})."
                    " Nothing was written. recipes/publish/stored_study.py says what is stored."
                )
    target = results_folder(root) / name
    store_study(study, target, note)
    return target


def default_name(study: Study) -> str:
    """Return the name under which a study is stored: its name, the images it is sized to, scale, levels, factor on the epochs."""
    factor = f"epochs_x{study.epochs_factor:g}" if study.epochs_factor != 1 else ""
    parts = (study.name, images_of_sized(study.mapping), study.scale, name_of_part(study.mapping), factor)
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "_".join(filter(None, parts)))


def refresh(root: Path, *, write: bool) -> list[str]:
    """Write every block and figure of the documents from the stored results; return what differs, or differed.

    Nothing is written if a block cannot be filled.
    """
    documents = {path: path.read_text(encoding="utf-8") for path in find_documents(root)}
    wanted = {(path, *block) for path, text in documents.items() for block in blocks_in(text, path)}
    new: dict[Path, str] = {}
    with ExitStack() as stack:
        studies = dict(_open(stack, root, wanted))
        for path, text in documents.items():
            filled = fill_blocks(text, path, lambda study, part, document: studies[study].text(part, document, root))
            if filled != text:
                new[path] = filled
        for name, figure in sorted({(study, part) for _, study, part in wanted if part.startswith(FIGURE)}):
            drawing, _ = studies[name].figures[figure.removeprefix(FIGURE)]
            path = figure_file(root, name, figure.removeprefix(FIGURE))
            if not is_current(path, drawing):
                new[path] = render_figure(drawing)
    for path, text in new.items() if write else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    return [path.relative_to(root).as_posix() for path in new]


def _open(stack: ExitStack, root: Path, wanted: set[tuple[Path, str, str]]) -> Iterator[tuple[str, PublishedStudy]]:
    """Yield every stored study that a document names; raise UserError for one that is not stored."""
    folder = results_folder(root)
    known = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for document, name, part in sorted(wanted):
        if name not in known:
            raise _unknown(document, name, part, [f"{each} {part}" for each in known])
    for name in sorted({name for _, name, _ in wanted}):
        yield name, PublishedStudy(name, *stack.enter_context(restored(folder / name)))


def _unknown(document: Path, study: str, part: str, known: list[str]) -> UserError:
    """Return the error for a block that names a study that is not stored, or a part that its report does not have."""
    hint = did_you_mean(part, known)
    return UserError(
        f"{document}: results of {study} {part}: there is no such study or part.{hint} Known: {', '.join(known) or 'none'}."
    )
