"""Compute of a sized study: what an arm may spend in a budget of time, and what its stages cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from common.yaml_words import as_value
from recipes.sizing import from_public, from_scratch
from recipes.sizing.choices import Chooser
from recipes.sizing.design import PRETRAINING_PART, STEMS, Design
from recipes.sizing.facts import ImageFacts
from recipes.sizing.from_public import PublicWeights, start_settings
from recipes.sizing.from_scratch import Setting
from recipes.sizing.machine import Machine
from recipes.sizing.networks import NetworkAtSize
from recipes.stages import FINETUNE, PRETRAIN
from recipes.study.baselines import PIXELS_SIDE
from recipes.study.specification import BASELINES

CLASS_TOKEN_ONLY, MAX_PRODUCTS = "train.class_token_only", "max_products"
MOST_EPOCHS = 800
"""Epochs of pre-training beyond which more compute is not spent."""
TRAINING = 3.0
"""MACs of a training step relative to those of its forward pass."""
SPEED = 0.7
"""Part of the rate of bare training that a run reaches, with data, evaluations and other runs beside it."""
RUN_SECONDS = 4.0
"""Seconds that a run takes besides training: start, verification of images, evaluation of a small test set."""
SECONDS_PER_IMAGE, SECONDS_PER_PRODUCT = 6e-4, 5e-7
"""Seconds of a baseline on one core: for an image (k-NN among others), and for each training image, feature and class of its
logistic regression. Measured on an AMD EPYC (Zen 3) with 1,360 and 13,600 training images in 8 classes at 24 px: 10 and 102 s on
pixels, 8 and 21 s on 64 features."""
BASELINES_PART = 0.2
"""Part of the budget that the logistic regressions may take; of the largest ones, k-NN alone is evaluated."""


class Measures(Protocol):
    """Costs of recipes and the rate of the machine; settings are recipe keys on top of those of the study's recipes."""

    def macs(self, stage: str, settings: Mapping[str, Any]) -> float:
        """Return the MACs for an image in an epoch of `pretrain`, `continue` or `finetune`."""

    def rate(self, settings: Mapping[str, Any], batch_size: int) -> float:
        """Return the MACs per second of a run that trains the network of `settings`."""


@dataclass(frozen=True)
class Compute:
    """Budgets and costs, in MACs, for images of a kind on a machine; the keys of the command line count."""

    facts: ImageFacts
    machine: Machine
    seconds: float
    measures: Measures
    chooser: Chooser
    batch: int
    """Batch size of pre-training from scratch."""

    def budget(
        self,
        design: Design,
        at: NetworkAtSize,
        public: PublicWeights | None = None,
        side: int = 0,
        *,
        continued: bool = True,
    ) -> float:
        """Return what an arm may spend: all arms together take the seconds of the budget.

        With `public`, its network at an input of `side` pixels is fine-tuned and, if `continued`, also in an arm that pre-trains.
        """
        seconds_per_mac, seconds_of_runs = self._costs(design, at, public, side, continued=continued)
        seconds = self.machine.jobs * self.seconds - seconds_of_runs
        most = MOST_EPOCHS * self.facts.images * self.pretraining(at) / PRETRAINING_PART
        return max(0.0, min(most, seconds / seconds_per_mac))

    def least_seconds(self, design: Design, at: NetworkAtSize) -> float:
        """Return the seconds from which on a study without public weights has an epoch of each stage, with its regressions."""
        seconds_per_mac, seconds_of_runs = self._costs(design, at, None, 0, regressions=False)
        needed = seconds_of_runs + self.least(at) * seconds_per_mac
        return needed / self.machine.jobs / (1 - BASELINES_PART)

    def _costs(
        self,
        design: Design,
        at: NetworkAtSize,
        public: PublicWeights | None,
        side: int,
        *,
        continued: bool = True,
        regressions: bool = True,
    ) -> tuple[float, float]:
        """Return the seconds of all runs together for each MAC of an arm's budget, and those that they take besides training."""
        both = (False, True)
        rate, arms = (
            self._rate(self.settings(at), design),
            STEMS * sum(design.budgets(pretrained=each) for each in both),
        )
        runs = STEMS * sum(design.runs(pretrained=each) for each in both)
        seconds_per_mac = arms / rate
        per_image = SECONDS_PER_IMAGE + STEMS * len(both) * self._feature_seconds(self.finetuning(at), rate)
        if public is not None:
            started = both if continued else (False,)
            rate = self._rate(self._start(public, side), design)
            seconds_per_mac += sum(design.budgets(pretrained=each) for each in started) / rate
            runs += sum(design.runs(pretrained=each) for each in started)
            per_image += len(started) * self._feature_seconds(self._public_macs(public, side), rate)
        images = sum(share * self.facts.labeled + self.facts.validation + self.facts.test for share in design.shares)
        besides = RUN_SECONDS * runs + len(design.seeds) * images * per_image
        if regressions:
            most = self.most_products(design, at, public, continued=continued)
            fitted = [each for each in self._regressions(design, at, public, continued=continued) if each <= most]
            besides += SECONDS_PER_PRODUCT * sum(fitted)
        return seconds_per_mac / SPEED, besides

    def _feature_seconds(self, training_macs: float, rate: float) -> float:
        """Return the seconds in which a baseline computes and compares the features of an image."""
        return training_macs / TRAINING / rate / SPEED + SECONDS_PER_IMAGE

    def _regressions(
        self, design: Design, at: NetworkAtSize, public: PublicWeights | None, *, continued: bool
    ) -> list[float]:
        """Return the products of every logistic regression of the study: training images times features times classes."""
        values = [min(at.side, PIXELS_SIDE) ** 2 * self.facts.channels, *[at.network.width] * STEMS * 2]
        values += [] if public is None else [public.width] * (1 + continued)
        labels, classes = self.facts.labeled, len(self.facts.class_counts)
        return [share * labels * value * classes for share in design.shares for value in values for _ in design.seeds]

    def most_products(
        self, design: Design, at: NetworkAtSize, public: PublicWeights | None = None, *, continued: bool = False
    ) -> float:
        """Return `max_products` of the baselines: beyond it, k-NN alone is evaluated."""
        found = sorted(self._regressions(design, at, public, continued=continued))
        seconds, most = BASELINES_PART * self.machine.jobs * self.seconds, 1.0
        for products in dict.fromkeys(found):
            if SECONDS_PER_PRODUCT * sum(each for each in found if each <= products) <= seconds:
                most = products
        return float(as_value(self.chooser.value(BASELINES, MAX_PRODUCTS, float(f"{1.01 * most:.3g}"))))

    def expected_rate(self, at: NetworkAtSize, design: Design) -> float:
        """Return the MACs per second that a run from scratch should reach."""
        return SPEED * self._rate(self.settings(at), design)

    def _rate(self, settings: Mapping[str, Any], design: Design) -> float:
        """Return the measured rate, at the smaller one of the batch sizes of both stages."""
        return self.measures.rate(settings, min(self.batch, self.finetuning_batch(design)[1]))

    def finetuning_batch(self, design: Design) -> Setting:
        """Return the batch size of fine-tuning."""
        return from_scratch.finetuning_batch(round(min(design.shares) * self.facts.labeled), self.facts.labeled)

    def pretraining(self, at: NetworkAtSize, stem: str = "conv") -> float:
        """Return the MACs of DINO for an image, by default with the stem that costs more."""
        chosen = [*from_scratch.views(self.facts, at.side, at.patch), *from_scratch.head(self.facts, at)]
        return self.measures.macs(PRETRAIN, {**self._network(at, stem), **self._values(PRETRAIN, chosen)})

    def finetuning(self, at: NetworkAtSize) -> float:
        """Return the MACs of supervised training for an image, with the stem that costs more."""
        return self.measures.macs(FINETUNE, self._network(at, "conv"))

    def _network(self, at: NetworkAtSize, stem: str) -> dict[str, Any]:
        """Return the recipe keys of a network with a stem."""
        strides = self.chooser.value("scratch", "model.stem_strides", at.conv_strides) if stem == "conv" else None
        return {
            **self.settings(at),
            "model.stem": stem,
            **({"model.stem_strides": strides} if strides is not None else {}),
        }

    def settings(self, at: NetworkAtSize) -> dict[str, Any]:
        """Return the recipe keys of a network, whatever its stem."""
        return {**at.settings, CLASS_TOKEN_ONLY: self.chooser.value("scratch", CLASS_TOKEN_ONLY, self.is_standard)}

    @property
    def is_standard(self) -> bool:
        """Return whether the command line leaves the blocks of the networks as they are: others may need all of their tokens."""
        return not any(key.endswith(("model.ffn", "model.kwargs")) for key in self.chooser.given)

    def steps(self, at: NetworkAtSize, budget: float) -> float:
        """Return the steps of pre-training in a budget, 0 if it has no complete epoch of both stages."""
        return PRETRAINING_PART * budget / self.pretraining(at) / self.batch if budget >= self.least(at) else 0.0

    def least(self, at: NetworkAtSize) -> float:
        """Return the smallest budget of an arm that has an epoch of pre-training and one of fine-tuning."""
        pretraining = max(self.facts.images, self.batch) * self.pretraining(at) / PRETRAINING_PART
        return max(pretraining, self.facts.labeled * self.finetuning(at) / (1 - PRETRAINING_PART))

    def epochs(self, at: NetworkAtSize, stem: str, budget: float) -> int:
        """Return the whole epochs of a pre-training in a budget that has an epoch of both stages."""
        per_epoch = max(1, self.facts.images // self.batch) * self.batch * self.pretraining(at, stem)
        return max(1, int(PRETRAINING_PART * budget / per_epoch))

    def can_finetune(self, public: PublicWeights, side: int, budget: float, least_steps: int) -> bool:
        """Return whether a budget has an epoch and so many steps of fine-tuning public weights."""
        images = budget / self._public_macs(public, side)
        return images >= max(self.facts.labeled, least_steps * min(32, self.facts.labeled))

    def _start(self, public: PublicWeights, side: int) -> dict[str, Any]:
        """Return the keys of every run that starts from public weights."""
        only = self.chooser.value("public", CLASS_TOKEN_ONLY, True) if public.pools_class_token else False
        return {**start_settings(public, side, self.facts.channels), CLASS_TOKEN_ONLY: only}

    def _public_macs(self, public: PublicWeights, side: int) -> float:
        """Return the MACs of supervised training of public weights for an image."""
        return self.measures.macs(FINETUNE, self._start(public, side))

    def continued_settings(self, public: PublicWeights, side: int) -> list[Setting]:
        """Return the settings of continued pre-training that do not depend on its length."""
        facts = self.facts
        return [
            *from_scratch.full_views(facts, side, public.patch),
            *from_public.continued(public, facts.images),
            ("train.batch_size", from_scratch.pretraining_batch(facts.images)[1], "as from scratch"),
        ]

    def continued_steps(self, public: PublicWeights, side: int, budget: float) -> tuple[int, int]:
        """Return the whole epochs of continued pre-training that a budget has, and the steps of an epoch.

        There are none if the rest of the budget does not have an epoch of fine-tuning.
        """
        settings = self._values("continue", self.continued_settings(public, side))
        batch = self.chooser.whole("continue", "train.batch_size", settings["train.batch_size"])
        steps = max(1, self.facts.images // batch)
        macs = self.measures.macs("continue", {**self._start(public, side), **settings})
        can_follow = (1 - PRETRAINING_PART) * budget >= self.facts.labeled * self._public_macs(public, side)
        return int(PRETRAINING_PART * budget / (steps * batch * macs)) if can_follow else 0, steps

    def _values(self, group: str, settings: list[Setting]) -> dict[str, Any]:
        """Return the values of settings, those of the command line where it has them."""
        return {key: self.chooser.value(group, key, value) for key, value, _ in settings}
