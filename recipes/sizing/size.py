"""The sizing: from images, machine and budget to networks, input sizes, views, lengths, batches and DINO's settings.

Every choice has its reason, and the command line can set its key instead: what follows from it follows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from common.yaml_text import as_value
from recipes.sizing import from_public, from_scratch
from recipes.sizing.choices import Chooser, SizingChoice
from recipes.sizing.compute import BASELINES_PART, CLASS_TOKEN_ONLY, MAX_PRODUCTS, Compute, Measures
from recipes.sizing.design import LENGTHS, PRETRAINING_PART, SEEDS, Design, designs, smallest_share
from recipes.sizing.duration import format_seconds
from recipes.sizing.facts import MEASURED, ImageFacts
from recipes.sizing.from_public import PublicWeights
from recipes.sizing.hold_outs import hold_outs
from recipes.sizing.machine import Machine
from recipes.sizing.networks import LEAST_SIDE, NETWORKS, SMALLER_SIDES, NetworkAtSize, candidates
from recipes.stages import FINETUNE, PRETRAIN
from recipes.study.specification import BASELINES

STEPS = 1000
"""Steps of pre-training that a network must reach to be chosen; if none does, the cheapest one is."""
DESIGN_STEPS = 300
"""Steps of pre-training of the cheapest network from which on a second share of the labels, or chosen lengths, are added."""
TUNED_STEPS = 1000
"""Steps of one-stage training from which on lengths are chosen: with fewer, the whole budget is rarely too long."""
PUBLIC_STEPS = 100
"""Steps of fine-tuning public weights below which their arms are left out."""
WARMUP = {PRETRAIN: 0.1, "continue": 0.2}
"""Part of the epochs of a pre-training during which its learning rate rises."""


@dataclass(frozen=True)
class Sizing:
    """What a sizing chose."""

    choices: tuple[SizingChoice, ...]
    design: Design
    budget_macs: float
    """MACs that every arm may spend in all of its stages."""
    public: PublicWeights | None
    """Public weights of the arms that start from them; None: there are no such arms."""
    continued: bool
    """Whether another arm continues pre-training from them."""
    skipped: tuple[str, ...]
    """Sentences on the arms that are left out."""
    macs_per_second: float
    """MACs per second that a run from scratch should reach."""
    channels: int
    """Channels of the images."""
    imbalanced: bool
    """Whether the largest class has at least twice as many images as the smallest one."""
    taken: frozenset[str]
    """Keys of the command line that are among the choices."""


def size_study(
    facts: ImageFacts,
    machine: Machine,
    budget_seconds: float,
    measures: Measures,
    *,
    public: PublicWeights | None = None,
    skipped: tuple[str, ...] = (),
    given: Mapping[str, Any] | None = None,
    seeds: tuple[int, ...] = (),
    may_tune: bool = True,
) -> Sizing:
    """Return the sizing of the study `my_images`; raise UserError if not even the cheapest one fits the budget.

    `given` are the keys of the command line, `seeds` those it reports; `skipped` says why there are no public weights, if `public`
    is None; `may_tune` is whether lengths may be chosen.

    The costliest network and input size is chosen whose pre-training still has `STEPS` steps, among the networks for so many
    images; if there is none, the cheapest. The budget in MACs, which every arm may spend, follows from that in time: the machine's
    rate for that network, times the runs at a time, divided by the number of budgets that the study's runs add up to.
    Pre-training gets half of an arm's.
    """
    chooser = Chooser(dict(given or {}))
    for key, value, reason in hold_outs(facts):
        chooser.state("hold-outs", key, value, reason)
    batch = chooser.whole(PRETRAIN, *chooser.pick(PRETRAIN, *from_scratch.pretraining_batch(facts.images)))
    compute = Compute(facts, machine, budget_seconds, measures, chooser, batch)
    options = designs(facts, seeds or SEEDS, may_tune=may_tune)
    found = _with_public(compute, options, public) if public is not None else None
    if found is None and public is not None:
        skipped += (f"public and continued: the budget is too short to train the network of {public.init}.",)
    design, at, budget = found.scratch if found is not None else _from_scratch(compute, options)
    if public is not None and found is not None and not found.continued:
        skipped += (f"continued: the budget is too short for an epoch of pre-training from {public.init}.",)
    _pick_scratch(compute, design, at, budget)
    trained = public if found is not None else None
    most = compute.most_products(design, at, trained, continued=found is not None and found.continued)
    why = f"k-NN alone beyond it: logistic regressions take at most {BASELINES_PART:.0%} of the budget"
    chooser.pick(BASELINES, MAX_PRODUCTS, most, why)
    if public is not None and found is not None:
        _pick_public(compute, public, found.side, budget, continued=found.continued)
    if unused := _of_absent_arms(
        chooser, *(() if found else ("public.",)), *(() if found and found.continued else ("continue.",))
    ):
        skipped += (f"{', '.join(unused)}: set on the command line, without effect, as the arms are left out.",)
    if machine.device != "cpu":
        chooser.pick("every run", "train.precision", "bf16", "the GPU was measured with it")
        chooser.pick("every run", "data.workers", max(1, machine.threads - 1), "the cores of a run, less one")
    _explain(compute, design, budget, may_tune=may_tune)
    return Sizing(
        choices=tuple(chooser.choices),
        design=design,
        budget_macs=budget,
        public=None if found is None else public,
        continued=found is not None and found.continued,
        skipped=skipped,
        macs_per_second=compute.expected_rate(at, design),
        channels=facts.channels,
        imbalanced=facts.imbalance >= 2,
        taken=frozenset(chooser.taken),
    )


@dataclass(frozen=True)
class _Start:
    """What a study with public weights trains."""

    scratch: tuple[Design, NetworkAtSize, float]
    """Design, network from scratch, and budget of an arm."""
    side: int
    """Side of the public network's input."""
    continued: bool
    """Whether pre-training continues from the weights, too."""


def _with_public(compute: Compute, options: Sequence[Design], public: PublicWeights) -> _Start | None:
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
                    return _Start((design, at, budget), side, continued)
    return None


def _from_scratch(compute: Compute, options: Sequence[Design]) -> tuple[Design, NetworkAtSize, float]:
    """Return design, network and budget without public weights; raise UserError that names a budget that is long enough."""
    for smallest in (LEAST_SIDE, *SMALLER_SIDES):
        design, at = _choose_network(compute, options, smallest)
        budget = compute.budget(design, at)
        if compute.steps(at, budget):
            return design, at, budget
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


def _pick_scratch(compute: Compute, design: Design, at: NetworkAtSize, budget: float) -> None:
    """Add the choices of training from scratch."""
    facts, chooser, steps = compute.facts, compute.chooser, round(compute.steps(at, budget))
    epochs = {stem: compute.epochs(at, stem, budget) for stem in ("patchify", "conv")}
    why = (
        f"the costliest network for {facts.images} images with {STEPS} steps of pre-training, else the cheapest: {steps} with"
        " conv, the stem that costs more"
    )
    chooser.pick("scratch", "model.name", at.network.name, why)
    chooser.pick("scratch", "data.image_size", at.side, _why_side(facts, at))
    chooser.pick("scratch", "model.patch_size", at.patch, f"{(at.side // at.patch) ** 2} tokens")
    why = (
        "the same steps up to rounding, for fewer MACs"
        if compute.is_standard
        else "the blocks are set on the command line"
    )
    chooser.pick("scratch", CLASS_TOKEN_ONLY, compute.is_standard, why)
    if at.conv_strides is not None:
        why = "the default conv stem costs more than this network; the second stride earlier saves most of it"
        chooser.pick("scratch", "model.stem_strides", at.conv_strides, why, stem="conv")
    chooser.pick_all("scratch", ((key, value, "over the training images") for key, value in MEASURED.items()))
    chooser.pick_all(PRETRAIN, from_scratch.views(facts, at.side, at.patch))
    chooser.pick_all(PRETRAIN, from_scratch.head(facts, at))
    of_stems = {stem: each * max(1, facts.images // compute.batch) for stem, each in epochs.items()}
    chooser.pick_all(PRETRAIN, from_scratch.schedule(steps, at, compute.batch, facts, of_stems))
    for stem in ("patchify", "conv"):
        _pick_length(chooser, PRETRAIN, epochs[stem], stem)
    batch = chooser.whole(FINETUNE, *chooser.pick(FINETUNE, *compute.finetuning_batch(design)))
    chooser.pick_all(FINETUNE, from_scratch.finetuning(facts, at, batch))


def _why_side(facts: ImageFacts, at: NetworkAtSize) -> str:
    """Return the reason of an input side."""
    own = f"images of {facts.side} px (median of the shorter side)"
    few = at.side < LEAST_SIDE <= facts.side
    return f"{own}; at {LEAST_SIDE} px the budget would not allow to see each of them once" if few else own


def _pick_length(chooser: Chooser, group: str, epochs: int, stem: str = "") -> int:
    """Add the epochs of a pre-training and the keys that go with them; return the epochs."""
    half = f"{PRETRAINING_PART:.0%} of an arm's compute"
    length = chooser.whole(group, *chooser.pick(group, "train.epochs", epochs, half, stem=stem))
    warmup = float(f"{length * WARMUP[group]:.4g}")
    chooser.pick(group, "optim.warmup_epochs", warmup, f"{WARMUP[group]:.0%} of them", stem=stem)
    chooser.pick(group, "knn.every_epochs", max(1, length // 4), "some four evaluations", stem=stem)
    return length


def _pick_public(compute: Compute, public: PublicWeights, side: int, budget: float, *, continued: bool) -> None:
    """Add the choices of the arms from public weights; `continued` is whether one continues pre-training from them."""
    chooser = compute.chooser
    chooser.note("public weights", public.init, "they can be had here")
    chooser.pick("public", "data.image_size", side, f"the weights know {public.side} px; the budget allows this")
    chooser.pick_all("public finetune", from_public.finetuning(public))
    if continued:
        epochs, steps = compute.continued_steps(public, side, budget)
        chooser.pick_all("continue", compute.continued_settings(public, side))
        length = _pick_length(chooser, "continue", epochs)
        chooser.pick_all("continue", from_public.continued_schedule(length * steps))


def _of_absent_arms(chooser: Chooser, *prefixes: str) -> list[str]:
    """Return the keys of the command line for arms that are left out, by their prefixes, and take them over."""
    unused = [key for key in chooser.given if key.startswith(prefixes)]
    chooser.taken.update(unused)
    return unused


def _explain(compute: Compute, design: Design, budget: float, *, may_tune: bool) -> None:
    """Add what is no recipe key: shares, seeds, candidates of the length, the budget of an arm."""
    note = compute.chooser.note
    more = "more labels of a class" if smallest_share(compute.facts) is None else "a longer budget"
    few = "" if len(design.shares) > 1 else f"; a second share would take {more}"
    labels = f"{compute.facts.labels_per_class} labels in the median class{few}"
    note("shares of the labels", ", ".join(f"{share:g}" for share in design.shares), labels)
    note("seeds", ", ".join(map(str, design.seeds)), "with fewer than three nothing is decided")
    lengths = ", ".join(f"{length:g}" for length in LENGTHS) if design.tuned else "1"
    reason = "the budget is too short" if may_tune else "tune=none"
    why = "chosen on validation images" if design.tuned else f"nothing is chosen: {reason}"
    note("lengths, in budgets", lengths, why)
    time = f"{format_seconds(compute.seconds)} on this machine, {compute.machine.describe()}"
    note("MACs of an arm", f"{budget:.3g}", time)
