"""What a sized study trains in its budget: design, network from scratch, and the arms from public weights."""

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import UserError
from common.yaml_words import as_value
from recipes.sizing.compute import Compute
from recipes.sizing.design import Design
from recipes.sizing.duration import format_seconds
from recipes.sizing.from_public import PublicWeights
from recipes.sizing.networks import LEAST_SIDE, NETWORKS, SMALLER_SIDES, NetworkAtSize, candidates

STEPS = 1000
"""Steps of pre-training that a network must reach to be chosen; if none does, the cheapest one is."""
DESIGN_STEPS = 300
"""Steps of pre-training of the cheapest network from which on a second share of the labels, or chosen lengths, are added."""
TUNED_STEPS = 1000
"""Steps of one-stage training from which on lengths are chosen: with fewer, the whole budget is rarely too long."""
PUBLIC_STEPS = 100
"""Steps of fine-tuning public weights below which their arms are left out."""


@dataclass(frozen=True)
class Trained:
    """What a study trains."""

    design: Design
    at: NetworkAtSize
    """Network from scratch."""
    budget: float
    """MACs of an arm."""
    public: PublicWeights | None = None
    """Public weights that its other arms start from; None: there are none."""
    side: int = 0
    """Side of the public network's input."""
    continued: bool = False
    """Whether an arm continues pre-training from the weights."""


def choose_trained(compute: Compute, options: Sequence[Design], public: PublicWeights | None) -> Trained:
    """Return what a study trains, with public weights if they fit; raise UserError if not even training from scratch does."""
    with_public = None if public is None else _with_public(compute, options, public)
    return with_public or _from_scratch(compute, options)


def _with_public(compute: Compute, options: Sequence[Design], public: PublicWeights) -> Trained | None:
    """Return the largest input of public weights at which both of their arms have an epoch, else fine-tuning alone; None if none
    has.

    The arms share the budget that is left when all of them, and the baselines on their features, are counted.
    """
    given = compute.chooser.whole_given("public", "data.image_size")
    for smallest in (LEAST_SIDE, *SMALLER_SIDES):
        design, at = _choose_network(compute, options, smallest)
        for continued in (True, False):
            for side in public.sides() if given is None else [given]:
                budget = compute.budget(design, at, public, side, continued=continued)
                if not compute.steps(at, budget) or not compute.can_finetune(public, side, budget, PUBLIC_STEPS):
                    continue
                if not continued or compute.continued_steps(public, side, budget)[0]:
                    return Trained(design, at, budget, public, side, continued)
    return None


def _from_scratch(compute: Compute, options: Sequence[Design]) -> Trained:
    """Return what a study without public weights trains; raise UserError that names a budget that is long enough."""
    for smallest in (LEAST_SIDE, *SMALLER_SIDES):
        design, at = _choose_network(compute, options, smallest)
        budget = compute.budget(design, at)
        if compute.steps(at, budget):
            return Trained(design, at, budget)
    enough = format_seconds(1.1 * compute.least_seconds(design, at))
    raise UserError(
        f"--budget {format_seconds(compute.seconds)}: is too short for {compute.facts.images} images on this machine: not every"
        f" stage would see each of them once. Give one of about {enough} at least, or fewer images."
    )


def _choose_network(compute: Compute, options: Sequence[Design], smallest: int) -> tuple[Design, NetworkAtSize]:
    """Return the most informative design that the cheapest network can carry, and the costliest network for it.

    Images are not reduced below the side `smallest`.
    """
    found = _allowed(compute, smallest)

    def carries(design: Design) -> bool:
        budget = compute.budget(design, found[-1])
        enough = TUNED_STEPS * compute.finetuning_batch(design)[1] if design.tuned else 0
        return budget / compute.finetuning(found[-1]) >= enough and compute.steps(found[-1], budget) >= DESIGN_STEPS

    design = next((each for each in options if carries(each)), options[-1])
    long = (at for at in found if compute.steps(at, compute.budget(design, at)) >= STEPS)
    return design, next(long, found[-1])


def _allowed(compute: Compute, smallest: int) -> list[NetworkAtSize]:
    """Return the networks and input sizes that the command line allows, the costliest first; raise UserError if it allows none.

    Images are not reduced below the side `smallest`.
    """
    chooser, facts = compute.chooser, compute.facts
    side, patch = (chooser.whole_given("scratch", key) for key in ("data.image_size", "model.patch_size"))
    is_given, name = chooser.value_given("scratch", "model.name")
    known = [network.name for network in NETWORKS]
    if is_given and str(as_value(name)) not in known:
        raise UserError(f"model.name = {name}: a study that is sized trains one of {', '.join(known)} from scratch.")
    images = max(network.least_images for network in NETWORKS) if is_given else facts.images
    found = candidates(facts.side, images, side=side, patch=patch, smallest=smallest)
    fitting = [
        at for at in found if at.side % at.patch == 0 and (not is_given or at.network.name == str(as_value(name)))
    ]
    if not fitting:
        raise UserError(
            f"model.patch_size = {patch}: no input for images of {facts.side} px is a multiple of it. Also set data.image_size."
            if side is None
            else f"data.image_size = {side}: is not a multiple of model.patch_size = {patch or found[0].patch}. Set both."
        )
    return sorted(fitting, key=lambda at: -compute.pretraining(at))
