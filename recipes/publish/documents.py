"""Blocks of a document that hold published results: everything between two markers is written by the program.

    <!-- results: quickstart accuracies -->
    ...
    <!-- end of results -->

The first word is the folder of a stored study, the second a part of its report, or `figure:` or `caption:` and the name of a
figure. Markers on one line, within a sentence, hold a part of one line. In a fenced code block they mean nothing.
"""

import re
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError

BEGIN, END = "<!-- results:", "<!-- end of results -->"
_CODE = r"^(?P<fence>```+|~~~+).*?^(?P=fence)"
_BLOCK = re.compile(
    rf"(?P<code>{_CODE})|{BEGIN} (?P<study>\S+) (?P<part>\S+) -->(?P<body>.*?){END}", re.DOTALL | re.MULTILINE
)

Find = Callable[[str, str, Path], str]
"""(study, part, document) -> the text of the part."""


def find_documents(root: Path) -> list[Path]:
    """Return the documents that may hold blocks: README.md and the pages of docs/."""
    return [path for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))) if path.is_file()]


def blocks_in(text: str, document: Path) -> list[tuple[str, str]]:
    """Return (study, part) of every block; raise UserError for markers that do not belong together."""
    found = [match for match in _BLOCK.finditer(text) if not match["code"]]
    rest = _BLOCK.sub("", text)
    if BEGIN in rest or END in rest or any(BEGIN in match["body"] for match in found):
        raise UserError(
            f"{document}: the markers of its results do not belong together. A block begins with `{BEGIN} <study> <part> -->` and"
            f" ends with `{END}`."
        )
    return [(match["study"], match["part"]) for match in found]


def outside_of_blocks(text: str) -> str:
    """Return the text of a document without its blocks."""
    return _BLOCK.sub(lambda match: match["code"] or "", text)


def fill_blocks(text: str, document: Path, find: Find) -> str:
    """Return a document whose blocks hold the text that `find` returns for their study and part."""
    blocks_in(text, document)

    def filled(match: re.Match[str]) -> str:
        """Return a block with its content, or code as it is."""
        if match["code"]:
            return match["code"]
        content = find(match["study"], match["part"], document)
        begin = f"{BEGIN} {match['study']} {match['part']} -->"
        if "\n" in match["body"]:
            return f"{begin}\n\n{content}\n\n{END}"
        if "\n" in content:
            raise UserError(
                f"{document}: the block {match['study']} {match['part']} is within a line, but this part has several. Put the"
                " markers on lines of their own."
            )
        return f"{begin}{content}{END}"

    return _BLOCK.sub(filled, text)
