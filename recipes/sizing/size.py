"""The sizing: from images, machine and budget to networks, input sizes, views, lengths, batches and DINO's settings.

Every choice has its reason, and the command line can set its key instead: what follows from it follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recipes.sizing import from_public, from_scratch
from recipes.sizing.choices import Chooser, SizingChoice
from recipes.sizing.compute import BASELINES_PART, CLASS_TOKEN_ONLY, MAX_PRODUCTS, Compute, Measures
from recipes.sizing.design import LENGTHS, PRETRAINING_PART, SEEDS, Design, designs, smallest_share
from recipes.sizing.duration import format_seconds
from recipes.sizing.facts import MEASURED, ImageFacts
from recipes.sizing.from_public import PublicWeights
from recipes.sizing.hold_outs import hold_outs
from recipes.sizing.machine import Machine
from recipes.sizing.metric import is_balanced, metric_notes
from recipes.sizing.networks import LEAST_SIDE, NetworkAtSize
from recipes.sizing.trained import DESIGN_STEPS, STEPS, Trained, choose_trained
from recipes.stages import FINETUNE, PRETRAIN
from recipes.study.specification import BASELINES

FEWER_MACS = "the same steps up to rounding, for fewer MACs"
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
    for name, value, reason in metric_notes(facts):
        chooser.note(name, value, reason)
    batch = chooser.whole(PRETRAIN, *chooser.pick(PRETRAIN, *from_scratch.pretraining_batch(facts.images)))
    compute = Compute(facts, machine, budget_seconds, measures, chooser, batch)
    options = designs(facts, seeds or SEEDS, may_tune=may_tune)
    trained = choose_trained(compute, options, public)
    if public is not None and trained.public is None:
        skipped += (f"public and continued: the budget is too short to train the network of {public.init}.",)
    elif public is not None and not trained.continued:
        skipped += (f"continued: the budget is too short for an epoch of pre-training from {public.init}.",)
    _pick_scratch(compute, trained)
    _pick_baselines(compute, trained)
    if trained.public is not None:
        _pick_public(compute, trained, trained.public)
    if unused := _of_absent_arms(chooser, trained):
        skipped += (f"{', '.join(unused)}: set on the command line, without effect, as the arms are left out.",)
    if machine.bf16_ratio is not None:
        why = f"matrix products in bf16 are {machine.bf16_ratio:g} times as fast as in fp32 (measured)"
        chooser.pick("every run", "train.precision", machine.precision, why)
        chooser.pick("every run", "data.workers", "auto", "by the cores and the shared memory of a run on a GPU")
    _explain(compute, trained.design, trained.budget, may_tune=may_tune)
    return Sizing(
        choices=tuple(chooser.choices),
        design=trained.design,
        budget_macs=trained.budget,
        public=trained.public,
        continued=trained.continued,
        skipped=skipped,
        macs_per_second=compute.expected_rate(trained.at, trained.design),
        channels=facts.channels,
        imbalanced=is_balanced(facts),
        taken=frozenset(chooser.taken),
    )


def _pick_scratch(compute: Compute, trained: Trained) -> None:
    """Add the choices of training from scratch."""
    design, at, budget = trained.design, trained.at, trained.budget
    facts, chooser, steps = compute.facts, compute.chooser, round(compute.steps(at, budget))
    epochs = {stem: compute.epochs(at, stem, budget) for stem in ("patchify", "conv")}
    why = (
        f"the costliest network for {facts.images} images with {STEPS} steps of pre-training, else the cheapest: {steps} with"
        " conv, the stem that costs more"
    )
    chooser.pick("scratch", "model.name", at.network.name, why)
    chooser.pick("scratch", "data.image_size", at.side, _why_side(facts, at))
    chooser.pick("scratch", "model.patch_size", at.patch, f"{(at.side // at.patch) ** 2} tokens")
    why = FEWER_MACS if compute.is_standard else "the blocks are set on the command line"
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
    if steps < DESIGN_STEPS and not {"train.epochs", "pretrain.train.epochs"} & chooser.given.keys():
        longer = format_seconds(compute.seconds * STEPS / max(1, steps))
        chooser.note(
            "steps of pre-training", f"{steps}", f"too few to learn from; {STEPS} would take a budget of about {longer}"
        )
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


def _pick_baselines(compute: Compute, trained: Trained) -> None:
    """Add the choice of the baselines."""
    most = compute.most_products(trained.design, trained.at, trained.public, continued=trained.continued)
    why = f"k-NN alone beyond it: logistic regressions take at most {BASELINES_PART:.0%} of the budget"
    compute.chooser.pick(BASELINES, MAX_PRODUCTS, most, why)


def _pick_public(compute: Compute, trained: Trained, public: PublicWeights) -> None:
    """Add the choices of the arms from public weights."""
    chooser, side = compute.chooser, trained.side
    chooser.note("public weights", public.init, "they can be had here")
    chooser.pick("public", "data.image_size", side, f"the weights know {public.side} px; the budget allows this")
    if public.pools_class_token:
        chooser.pick("public", CLASS_TOKEN_ONLY, True, FEWER_MACS)
    chooser.pick_all("public finetune", from_public.finetuning(public))
    if trained.continued:
        epochs, steps = compute.continued_steps(public, side, trained.budget)
        chooser.pick_all("continue", compute.continued_settings(public, side))
        length = _pick_length(chooser, "continue", epochs)
        chooser.pick_all("continue", from_public.continued_schedule(length * steps))


def _of_absent_arms(chooser: Chooser, trained: Trained) -> list[str]:
    """Return the keys of the command line for arms that are left out, and take them over."""
    prefixes = (
        *(() if trained.public is not None else ("public.",)),
        *(() if trained.continued else ("continue.",)),
    )
    unused = [key for key in chooser.given if key.startswith(prefixes)]
    chooser.taken.update(unused)
    return unused


def _explain(compute: Compute, design: Design, budget: float, *, may_tune: bool) -> None:
    """Add what is no recipe key: shares, seeds, candidates of the length, the budget of an arm."""
    note = compute.chooser.note
    more = "more labels of a class" if smallest_share(compute.facts) is None else "a longer budget"
    few = "" if len(design.shares) > 1 else f"; a second share would take {more}"
    labels = f"{compute.facts.labels_per_class} labels in the median class{few}"
    note("label fractions", ", ".join(f"{share:g}" for share in design.shares), labels)
    note("seeds", ", ".join(map(str, design.seeds)), "with fewer than three nothing is decided")
    lengths = ", ".join(f"{length:g}" for length in LENGTHS) if design.tuned else "1"
    reason = "the budget is too short" if may_tune else "tune=none"
    why = "chosen on validation images" if design.tuned else f"nothing is chosen: {reason}"
    note("lengths, in budgets", lengths, why)
    time = f"{format_seconds(compute.seconds)} on this machine, {compute.machine.describe()}"
    note("MACs of an arm", f"{budget:.3g}", time)
