"""The sizing: from images, machine and budget to networks, input sizes, views, lengths, batches and DINO's settings.

Every choice has its reason, and the command line can set its key instead: what follows from it follows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from common.errors import UserError
from common.yaml_text import as_value
from recipes.sizing import from_public, from_scratch
from recipes.sizing.choices import Chooser, SizingChoice
from recipes.sizing.design import LENGTHS, PRETRAINING_PART, SEEDS, STEMS, Design, designs
from recipes.sizing.duration import format_seconds
from recipes.sizing.facts import ImageFacts
from recipes.sizing.from_public import PublicWeights, start_settings
from recipes.sizing.from_scratch import Setting
from recipes.sizing.machine import Machine
from recipes.sizing.networks import NETWORKS, NetworkAtSize, candidates

STEPS = 1000
"""Steps of pre-training that a network must reach to be chosen; if none does, the cheapest one is."""
DESIGN_STEPS = 300
"""Steps of pre-training of the cheapest network from which on a second share of the labels, or chosen lengths, are added."""
TUNED_STEPS = 1000
"""Steps of one-stage training from which on lengths are chosen: with fewer, the whole budget is rarely too long."""
MOST_EPOCHS = 800
"""Epochs of pre-training beyond which more compute is not spent."""
PUBLIC_STEPS = 100
"""Steps of fine-tuning public weights below which their arms are left out."""
SPEED = 0.7
"""Part of the rate of bare training that a run reaches, with data, evaluations and other runs beside it."""
RUN_SECONDS = 4.0
"""Seconds that a run takes besides training: start, verification of images, evaluation of a small test set."""
WARMUP = {"pretrain": 0.1, "continue": 0.2}
"""Part of the epochs of a pre-training that its learning rate rises."""


class Measures(Protocol):
    """Costs of recipes and the rate of the machine; settings are recipe keys on top of those of the study's recipes."""

    def macs(self, stage: str, settings: Mapping[str, Any]) -> float:
        """Return the MACs for an image in an epoch of `pretrain`, `continue` or `finetune`."""

    def rate(self, settings: Mapping[str, Any], batch_size: int) -> float:
        """Return the MACs per second of a run that trains the network of `settings`."""


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
    """Whether pre-training goes on from them in another arm."""
    skipped: tuple[str, ...]
    """Sentences on the arms that are left out."""
    macs_per_second: float
    """MACs per second that a run from scratch is expected to reach."""
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
    options = designs(facts, seeds or SEEDS, may_tune=may_tune)
    sizer = _Sizer(facts, machine, budget_seconds, measures, Chooser(dict(given or {})), options)
    return sizer.size(public, skipped)


@dataclass(frozen=True)
class _Sizer:
    """A sizing at work: its inputs, and the choices so far."""

    facts: ImageFacts
    machine: Machine
    seconds: float
    measures: Measures
    chooser: Chooser
    designs: Sequence[Design]

    def size(self, public: PublicWeights | None, skipped: tuple[str, ...]) -> Sizing:
        """Return the sizing."""
        facts, pick = self.facts, self.chooser.pick
        batch = int(as_value(pick("pretrain", *from_scratch.pretraining_batch(facts.images))))
        design, at = self._choose_network(batch)
        side = None if public is None else self._public_side(public, self._budget(design, at, batch))
        if public is not None and side is None:
            skipped = (
                *skipped,
                f"public and continued: the budget is too short to train the network of {public.init}.",
            )
        budget = self._budget(design, at, batch, public, side)
        self._pick_scratch(at, batch, budget, design)
        is_continued = False
        if public is not None and side is not None:
            is_continued = self._pick_public(public, side, budget)
            if not is_continued:
                skipped = (
                    *skipped,
                    f"continued: the budget is too short for an epoch of pre-training from {public.init}.",
                )
        self._explain(design, budget)
        return Sizing(
            tuple(self.chooser.choices),
            design,
            budget,
            public if side is not None else None,
            is_continued,
            skipped,
            SPEED * self.measures.rate(at.settings, min(batch, self._finetuning_batch(design)[1])),
            facts.imbalance >= 2,
            frozenset(self.chooser.taken),
        )

    def _candidates(self) -> list[NetworkAtSize]:
        """Return the networks and input sizes that the command line allows."""
        given = {}
        for key in ("data.image_size", "model.patch_size", "model.name"):
            is_given, value = self.chooser.value_given("scratch", key)
            given[key] = as_value(value) if is_given else None
        name = given["model.name"]
        sizes = {"side": given["data.image_size"], "patch": given["model.patch_size"]}
        if name is None:
            return candidates(self.facts.side, self.facts.images, **sizes)
        known = [network.name for network in NETWORKS]
        if name not in known:
            raise UserError(
                f"model.name = {name}: a study that is sized trains one of {', '.join(known)} from scratch."
            )
        every = candidates(self.facts.side, max(network.least_images for network in NETWORKS), **sizes)
        return [each for each in every if each.network.name == name]

    def _choose_network(self, batch: int) -> tuple[Design, NetworkAtSize]:
        """Return the most informative design that the cheapest network can carry, and the costliest network for it."""
        options = sorted(self._candidates(), key=lambda at: -self._pretraining_macs(at))
        design = next((each for each in self.designs if self._carries(each, options[-1], batch)), self.designs[-1])
        long = (at for at in options if self._steps(at, batch, self._budget(design, at, batch)) >= STEPS)
        return design, next(long, options[-1])

    def _carries(self, design: Design, at: NetworkAtSize, batch: int) -> bool:
        """Return whether the budget has enough steps of a network for a design."""
        budget = self._budget(design, at, batch)
        is_long = (
            not design.tuned or budget / self._finetuning_macs(at) >= TUNED_STEPS * self._finetuning_batch(design)[1]
        )
        return is_long and self._steps(at, batch, budget) >= DESIGN_STEPS

    def _budget(
        self,
        design: Design,
        at: NetworkAtSize,
        batch: int,
        public: PublicWeights | None = None,
        side: int | None = None,
    ) -> float:
        """Return the MACs of an arm, which the seconds of the budget allow."""
        own = STEMS * (design.budgets(pretrained=False) + design.budgets(pretrained=True))
        runs = STEMS * (design.runs(pretrained=False) + design.runs(pretrained=True))
        smaller = min(batch, self._finetuning_batch(design)[1])
        seconds_per_mac = own / self.measures.rate(at.settings, smaller)
        if public is not None and side is not None:
            further = design.budgets(pretrained=False) + design.budgets(pretrained=True)
            runs += design.runs(pretrained=False) + design.runs(pretrained=True)
            seconds_per_mac += further / self.measures.rate(start_settings(public, side), smaller)
        seconds = self.machine.jobs * self.seconds - RUN_SECONDS * runs
        most = MOST_EPOCHS * self.facts.images * self._pretraining_macs(at) / PRETRAINING_PART
        return max(0.0, min(most, SPEED * seconds / seconds_per_mac))

    def _steps(self, at: NetworkAtSize, batch: int, budget: float) -> float:
        """Return the steps of pre-training in a budget, 0 if it has no complete epoch."""
        images = PRETRAINING_PART * budget / self._pretraining_macs(at)
        return images / batch if images >= self.facts.images else 0.0

    def _pretraining_macs(self, at: NetworkAtSize, stem: str = "conv") -> float:
        """Return the MACs of DINO for an image, by default with the stem that costs more."""
        chosen = [*from_scratch.views(self.facts, at.side, at.patch), *from_scratch.head(self.facts.images, at)]
        settings = {key: self._value("pretrain", key, value) for key, value, _ in chosen}
        return self.measures.macs("pretrain", {**at.with_stem(stem), **settings})

    def _finetuning_macs(self, at: NetworkAtSize) -> float:
        """Return the MACs of supervised training for an image, with the stem that costs more."""
        return self.measures.macs("finetune", at.with_stem("conv"))

    def _finetuning_batch(self, design: Design) -> Setting:
        """Return the batch size of fine-tuning."""
        return from_scratch.finetuning_batch(round(min(design.shares) * self.facts.labeled), self.facts.labeled)

    def _value(self, group: str, key: str, value: Any) -> Any:
        """Return the value of the command line, or the given one."""
        is_given, given = self.chooser.value_given(group, key)
        return given if is_given else value

    def _pick_all(self, group: str, settings: Iterable[Setting]) -> None:
        """Add choices."""
        for setting in settings:
            self.chooser.pick(group, *setting)

    def _pick_scratch(self, at: NetworkAtSize, batch: int, budget: float, design: Design) -> None:
        """Add the choices of training from scratch."""
        facts, pick = self.facts, self.chooser.pick
        steps = self._steps(at, batch, budget)
        tokens = (at.side // at.patch) ** 2
        pick(
            "scratch",
            "model.name",
            at.network.name,
            f"the costliest network for {facts.images} images with {STEPS} steps of pre-training, else the cheapest: {steps:.0f}",
        )
        pick("scratch", "data.image_size", at.side, f"images of {facts.side} px (median of the shorter side)")
        pick("scratch", "model.patch_size", at.patch, f"{tokens} tokens")
        if at.conv_strides is not None:
            why = "the default conv stem costs more than this network; the second stride earlier saves most of it"
            pick("scratch", "model.stem_strides", at.conv_strides, why, stem="conv")
        for key in ("data.mean", "data.std"):
            pick("scratch", key, "measured", "over the training images")
        self._pick_all("pretrain", from_scratch.views(facts, at.side, at.patch))
        self._pick_all("pretrain", from_scratch.head(facts.images, at))
        self._pick_all("pretrain", from_scratch.schedule(round(steps), at, batch, facts))
        self._epochs(budget, self._pretraining_macs(at), batch)
        for stem in ("patchify", "conv"):
            epochs = self._epochs(budget, self._pretraining_macs(at, stem), batch)
            self._pick_length("pretrain", epochs, f"{PRETRAINING_PART:.0%} of an arm's compute", stem)
        size = pick("finetune", *self._finetuning_batch(design))
        self._pick_all("finetune", from_scratch.finetuning(facts, at, int(as_value(size))))

    def _epochs(self, budget: float, macs: float, batch: int) -> int:
        """Return the whole epochs of a pre-training; raise UserError if the budget has none."""
        per_epoch = max(1, self.facts.images // batch) * batch * macs
        epochs = int(PRETRAINING_PART * budget / per_epoch)
        if epochs >= 1:
            return epochs
        least = 1.1 * self.seconds * per_epoch / max(PRETRAINING_PART * budget, 1e-9)
        enough = f"one of about {format_seconds(least)} at least" if budget > 0 else "a longer one"
        raise UserError(
            f"--budget {format_seconds(self.seconds)}: is too short for {self.facts.images} images on this machine, where"
            f" pre-training would not see each of them once. Give {enough}, or fewer images."
        )

    def _pick_length(self, group: str, epochs: int, reason: str, stem: str = "") -> None:
        """Add the epochs of a pre-training and the keys that go with them."""
        self.chooser.pick(group, "train.epochs", epochs, reason, stem=stem)
        length = int(as_value(self.chooser.choices[-1].value))
        part = WARMUP[group]
        self.chooser.pick(group, "optim.warmup_epochs", float(f"{length * part:.4g}"), f"{part:.0%} of them", stem=stem)
        self.chooser.pick(group, "knn.every_epochs", max(1, length // 4), "four evaluations", stem=stem)

    def _public_side(self, public: PublicWeights, budget: float) -> int | None:
        """Return the largest input side at which the budget allows both arms, else fine-tuning alone; None if there is none."""
        is_given, given = self.chooser.value_given("public", "data.image_size")
        if is_given:
            return int(as_value(given))
        sides = [side for side in public.sides() if self._can_finetune(public, side, budget)]
        both = (side for side in sides if self._continued_epochs(public, side, budget))
        return next(both, sides[0] if sides else None)

    def _can_finetune(self, public: PublicWeights, side: int, budget: float) -> bool:
        """Return whether a budget has an epoch and `PUBLIC_STEPS` steps of fine-tuning public weights."""
        images = budget / self.measures.macs("finetune", start_settings(public, side))
        return images >= max(self.facts.labeled, PUBLIC_STEPS * min(32, self.facts.labeled))

    def _continued_settings(self, public: PublicWeights, side: int) -> list[Setting]:
        """Return the settings of continued pre-training that do not depend on its length."""
        facts = self.facts
        return [
            *from_scratch.views(facts, side, public.patch),
            *from_public.continued(public, facts.images),
            ("train.batch_size", from_scratch.pretraining_batch(facts.images)[1], "as from scratch"),
        ]

    def _continued_epochs(self, public: PublicWeights, side: int, budget: float) -> int:
        """Return the whole epochs of continued pre-training that half of a budget has."""
        settings = {
            key: self._value("continue", key, value) for key, value, _ in self._continued_settings(public, side)
        }
        batch = int(as_value(settings["train.batch_size"]))
        macs = self.measures.macs("continue", {**start_settings(public, side), **settings})
        return int(PRETRAINING_PART * budget / (max(1, self.facts.images // batch) * batch * macs))

    def _pick_public(self, public: PublicWeights, side: int, budget: float) -> bool:
        """Add the choices of the arms from public weights; return whether pre-training can go on from them."""
        self.chooser.pick("public", "init", public.init, "public weights that can be had here")
        self.chooser.pick(
            "public", "data.image_size", side, f"the weights know {public.side} px; the budget allows this"
        )
        self._pick_all("public finetune", from_public.finetuning(public))
        epochs = self._continued_epochs(public, side, budget)
        if epochs:
            settings = self._continued_settings(public, side)
            self._pick_all("continue", settings)
            batch = int(as_value(self._value("continue", *settings[-1][:2])))
            self._pick_length("continue", epochs, f"{PRETRAINING_PART:.0%} of an arm's compute")
            length = int(as_value(self._value("continue", "train.epochs", epochs)))
            self._pick_all("continue", from_public.continued_schedule(length * max(1, self.facts.images // batch)))
        return epochs > 0

    def _explain(self, design: Design, budget: float) -> None:
        """Add what is no recipe key: shares, seeds, candidates of the length, the budget of an arm."""
        shares = ", ".join(f"{share:g}" for share in design.shares)
        few = (
            ""
            if len(design.shares) > 1
            else "; fewer labels of a class, or a longer budget, would be needed for a second share"
        )
        self.chooser.note(
            "shares of the labels", shares, f"{self.facts.labels_per_class} labels in the median class{few}"
        )
        self.chooser.note("seeds", ", ".join(map(str, design.seeds)), "with fewer than three nothing is decided")
        lengths = ", ".join(f"{length:g}" for length in LENGTHS) if design.tuned else "1"
        why = "chosen on validation images" if design.tuned else "the budget is too short for more candidates"
        self.chooser.note("lengths, in budgets", lengths, why)
        self.chooser.note(
            "MACs of an arm",
            f"{budget:.3g}",
            f"{format_seconds(self.seconds)} on this machine, {self.machine.describe()}",
        )
