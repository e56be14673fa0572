"""Sentences and examples of a report about images that occur in several parts of the data, and what that means for its numbers."""

import math

from recipes.reports.duplicates import DuplicateImages, SharedImages
from recipes.reports.formatting import capital, listed
from recipes.reports.run_tables import Table

TITLE = "Duplicate images"
"""Heading of the section."""
PARTS = {"train": "training", "validation": "validation", "test": "test"}
MEANING = {
    (
        "train",
        "test",
    ): "A network may know them by heart, so the test metrics can be too good{bound}, most for the arms that"
    " memorize most.",
    (
        "train",
        "validation",
    ): "What is chosen or watched on validation images (lengths, k-NN during pre-training) can be too"
    " good; no test metric counts these images.",
    ("validation", "test"): "Choices made on validation images have seen these test images.",
}
"""What duplicates mean for the numbers, by pair of parts."""
KINDS = {"exact": "Images with the same content", "near": "Resized, recompressed and mirrored copies"}


class DuplicateWords:
    """The words of a study's duplicates."""

    title = TITLE

    def __init__(self, found: DuplicateImages) -> None:
        """Take what the runs recorded."""
        self.found = found

    def warning(self) -> str:
        """Return the sentence of the first screen: how many test images were trained on; empty if none were."""
        leaked = self.found.of("train", "test")
        if not leaked:
            return ""
        most = max(leaked, key=lambda each: each.count)
        return capital(
            f"{_count(most)} {_also(most)} training images: the test metrics can be too good. See “{TITLE}”."
        )

    def sentences(self) -> list[str]:
        """Return what was found, what it means for the numbers and what can be done; empty if the runs recorded nothing."""
        found = self.found
        if not found.stages:
            return []
        shared = [self._sentence(each) for each in found.shared]
        skipped = found.skipped or {}
        compared = [kind for kind in KINDS if not any(what == kind for what, _ in skipped)]
        if not shared and compared:
            shared = ["No image was found in more than one of the parts training, validation and test."]
        return [
            *shared,
            *([self._conflicts()] if found.conflicts else []),
            *(
                f"{KINDS.get(what, what)} were not looked for in {listed(stages)}: {reason.rstrip('.')}."
                for (what, reason), stages in skipped.items()
            ),
        ]

    def examples(self) -> Table:
        """Return some duplicates by name, at most ten for each pair of parts."""
        rows: dict[tuple[str, ...], None] = {}
        for each in self.found.shared:
            parts = f"{PARTS[each.second]}, {PARTS[each.first]}"
            rows |= dict.fromkeys((image, other, parts) for image, other in each.examples)
        return Table(["Image", "Is also", "Parts"], [list(row) for row in rows], 3)

    def _sentence(self, each: SharedImages) -> str:
        """Return what two parts share, in which stages, and what that means."""
        kinds = [f"{each.same} with the same content"] if each.same else []
        kinds += [f"{each.near} resized, recompressed or mirrored"] if each.near else []
        also = f"{PARTS[each.first]} images of {listed(each.stages)} ({', '.join(kinds)})"
        if each.is_excluded:
            excluded = (
                f"the {each.of_first} training images were excluded (data.duplicates=drop), and no number is affected"
            )
            return capital(f"{_count(each)} {_have(each)} duplicates among the {also}; {excluded}.")
        meaning = MEANING[each.first, each.second].format(bound=_bound(each))
        remedy = (
            f" Add data.duplicates=drop to the command: it excludes the {each.of_first} training images in every stage."
            if each.first == "train"
            else ""
        )
        return capital(f"{_count(each)} {_also(each)} {also}. {meaning}{remedy}")

    def _conflicts(self) -> str:
        """Return how many training images have contradicting labels."""
        one = self.found.conflicts == 1
        verb = "image has" if one else "images have"
        end = "as another one with another label: at most one of the two is right"
        return f"{self.found.conflicts} training {verb} the same content {end}."


def _count(each: SharedImages) -> str:
    """Return how many images of a part are meant: `5 of the 240 test images (2.1%)`."""
    part, most = PARTS[each.second], "up to " if each.varies else ""
    if each.size is None:
        return f"{most}{each.count} {part} image{'' if each.count == 1 else 's'}"
    return f"{most}{each.count:,} of the {each.size:,} {part} images ({100 * each.count / each.size:.2g}%)"


def _also(each: SharedImages) -> str:
    return "is also among the" if each.count == 1 else "are also among the"


def _have(each: SharedImages) -> str:
    return "has" if each.count == 1 else "have"


def _bound(each: SharedImages) -> str:
    """Return by how much a top-1 accuracy can be too good: by no more than the share of the images."""
    if each.size is None:
        return ""
    points = math.ceil(1000 * each.count / each.size) / 10
    return f" (top-1 accuracy by at most {points:.1f} points)"
