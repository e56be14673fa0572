"""Hold-outs of a sized study: the parts that the data lacks, and what they are for."""

from collections.abc import Iterator

from recipes.sizing.facts import ImageFacts
from recipes.sizing.from_scratch import Setting

PURPOSES = {
    "test": "every arm is tested on them",
    "validation": "k-NN watches pre-training on them, and lengths are chosen on them; no arm is compared by them",
}


def hold_outs(facts: ImageFacts) -> Iterator[Setting]:
    """Yield the fraction of the training images that is held out for each part that is no split of the data."""
    for part, fraction in facts.hold_outs.items():
        number = {"validation": facts.validation, "test": facts.test}[part]
        yield f"data.{part}_fraction", fraction, f"{number} images, as the data has no {part} split: {PURPOSES[part]}"
