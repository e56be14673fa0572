"""The sizing function: what follows from images, machine and budget, at its edges."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from common.errors import UserError
from recipes.sizing.choices import GIVEN
from recipes.sizing.compute import MOST_EPOCHS, SECONDS_PER_IMAGE, SECONDS_PER_PRODUCT, SPEED
from recipes.sizing.design import PRETRAINING_PART
from recipes.sizing.duration import read_duration
from recipes.sizing.facts import ImageFacts
from recipes.sizing.from_public import PublicWeights
from recipes.sizing.machine import Machine
from recipes.sizing.networks import NETWORKS, candidates, input_sides, patch_of
from recipes.sizing.size import Sizing, size_study

HOUR = 3600.0
MACHINE = Machine(2, 1, "cpu", "a processor")
PHOTOS = ImageFacts(class_counts=(500,) * 10, side=64)
DIGITS = ImageFacts(class_counts=(115,) * 10, side=8, gray=True)
PUBLIC = PublicWeights("timm:vit_small_patch14_dinov2", 518, 14, 22_000_000)
WIDTHS = {"vit_mini": 64, "vit_micro": 128, "vit_compact": 192, "vit_tiny": 192, "vit_small": 384, "init": 384}


@dataclass(frozen=True)
class FakeMeasures:
    """Costs that grow with the square of the width and the number of tokens; a constant rate."""

    per_second: float = 1e10

    def macs(self, stage: str, settings: Mapping[str, Any]) -> float:
        """Return made-up MACs for an image."""
        patch = settings.get("model.patch_size", 14)
        tokens = (settings.get("crops.global_size", settings["data.image_size"]) / patch) ** 2
        views = {"pretrain": 8.0, "continue": 8.0, "finetune": 3.0}[stage]
        stem = 1.5 if settings.get("model.stem") == "conv" else 1.0
        return views * stem * 50.0 * tokens * float(WIDTHS[settings["model.name"]]) ** 2

    def rate(self, settings: Mapping[str, Any], batch_size: int) -> float:
        """Return a constant rate."""
        return self.per_second


def size(facts: ImageFacts = PHOTOS, hours: float = 2.0, **arguments: Any) -> Sizing:
    """Return a sizing with made-up costs."""
    return size_study(facts, MACHINE, hours * HOUR, FakeMeasures(), **arguments)


def chosen(sizing: Sizing) -> dict[str, Any]:
    """Return the values of a sizing by group, key and stem."""
    return {f"{each.group}.{each.key}{each.stem}": each.value for each in sizing.choices}


@pytest.mark.parametrize(
    ("side", "first", "last"),
    [(1, 12, 12), (8, 12, 12), (23, 20, 12), (28, 28, 28), (32, 32, 32), (50, 48, 32), (100, 96, 32), (1000, 224, 32)],
)
def test_inputs_are_no_larger_than_the_images_and_multiples_of_the_patch(side: int, first: int, last: int) -> None:
    sides = input_sides(side)
    assert (sides[0], sides[-1]) == (first, last)
    assert all(each % patch_of(each) == 0 and (each // patch_of(each)) ** 2 <= 196 for each in sides)


def test_reason_of_the_momentum_counts_the_steps_of_both_stems() -> None:
    sizing = size(hours=0.2)
    values, (reason,) = chosen(sizing), [each.reason for each in sizing.choices if each.key == "dino.momentum_teacher"]
    batch = values["pretrain.train.batch_size"]
    steps = {stem: values[f"pretrain.train.epochs{stem}"] * (PHOTOS.images // batch) for stem in ("patchify", "conv")}
    assert steps["patchify"] > steps["conv"]
    assert reason.endswith(f"{steps['patchify']} with patchify and {steps['conv']} with conv")


def test_a_budget_in_which_pre_training_cannot_learn_names_one_in_which_it_can() -> None:
    def notes(hours: float, **given: Any) -> list[tuple[Any, str]]:
        choices = size(hours=hours, given=given).choices
        return [(each.value, each.reason) for each in choices if each.key == "steps of pre-training"]

    ((steps, reason),) = notes(0.1)
    assert int(steps) < 300 and reason.startswith("too few to learn from; 1000 would take a budget of about ")
    assert notes(0.1 * 1000 / int(steps)) == notes(24) == []
    assert notes(0.1, **{"pretrain.train.epochs": 3}) == []


@pytest.mark.parametrize(
    ("images", "largest"),
    [(1, "vit_mini"), (1_999, "vit_mini"), (2_000, "vit_micro"), (29_999, "vit_compact"), (10**7, "vit_small")],
)
def test_large_networks_need_many_images(images: int, largest: str) -> None:
    names = [each.network.name for each in candidates(224, images)]
    assert names[0] == largest
    assert set(names) == {each.name for each in NETWORKS if each.least_images <= images}


def test_a_longer_budget_never_compares_or_trains_less() -> None:
    sizings = [size(hours=hours) for hours in (0.5, 1, 2, 4, 8, 24, 240)]
    designs = [(len(each.design.shares), each.design.tuned) for each in sizings]
    assert designs == sorted(designs)
    assert (designs[0], designs[-1]) == ((1, False), (2, True))
    for before, after in itertools.pairwise(sizings):
        if before.design == after.design:
            costs = [FakeMeasures().macs("pretrain", _network(each)) for each in (before, after)]
            assert costs[0] <= costs[1]


def _network(sizing: Sizing) -> dict[str, Any]:
    """Return the network from scratch of a sizing."""
    keys = ("model.name", "model.patch_size", "data.image_size")
    return {key: chosen(sizing)[f"scratch.{key}"] for key in keys}


@pytest.mark.parametrize("hours", [0.75, 2, 10])
@pytest.mark.parametrize("facts", [PHOTOS, DIGITS, replace(PHOTOS, class_counts=(2500,) * 8, side=32)])
@pytest.mark.parametrize("public", [None, replace(PUBLIC, side=98)])
def test_the_arms_add_up_to_the_budget(hours: float, facts: ImageFacts, public: PublicWeights | None) -> None:
    sizing = size(facts, hours, public=public)
    design, arms = sizing.design, 4 + (2 if sizing.public else 0)
    shares, seeds = len(design.shares), len(design.seeds)
    two_stage = arms // 2
    runs = sizing.budget_macs * shares * seeds * arms - (shares - 1) * seeds * two_stage * (
        PRETRAINING_PART * sizing.budget_macs
    )
    seconds = runs / (SPEED * FakeMeasures().per_second * MACHINE.jobs)
    assert seconds <= hours * HOUR
    epochs = chosen(sizing)["pretrain.train.epochspatchify"]
    is_capped = epochs > 0.6 * MOST_EPOCHS
    if not design.tuned and not is_capped:
        assert seconds > 0.6 * hours * HOUR


def test_baselines_are_part_of_the_budget() -> None:
    """Classifiers of pixels take time, the more the more labels there are; none is fitted beyond what its recipe allows."""
    few, many = (
        replace(PHOTOS, class_counts=(count,) * 8, side=32, validation=count, test=count) for count in (50, 5000)
    )
    for facts in (few, many, replace(many, class_counts=(500,) * 80)):
        sizing = size(facts, hours=20)
        design, classes = sizing.design, len(facts.class_counts)
        labels = [share * facts.labeled for share in design.shares]
        products = [each * classes * chosen(sizing)["scratch.data.image_size"] ** 2 * 3 for each in labels]
        pixels = sum(each * SECONDS_PER_PRODUCT for each in products if each <= 1e9) + SECONDS_PER_IMAGE * sum(labels)
        arms = 2 * (design.budgets(pretrained=False) + design.budgets(pretrained=True))
        training = arms * sizing.budget_macs / (SPEED * FakeMeasures().per_second)
        assert 0 < training <= 20 * HOUR * MACHINE.jobs - len(design.seeds) * pixels


@pytest.mark.parametrize(
    "facts", [replace(PHOTOS, class_counts=(2_000,) * 10), PHOTOS, ImageFacts(class_counts=(9_000,) * 5, side=32)]
)
def test_arms_from_public_weights_have_an_epoch_within_the_budget_that_all_arms_share(facts: ImageFacts) -> None:
    """The budget shrinks once these arms count: a side that was affordable before may have less than an epoch of fine-tuning."""
    measures, found = FakeMeasures(), set()
    for hours in [0.5 * 1.15**power for power in range(60)]:
        sizing = size(facts, hours, public=PUBLIC)
        found.add((sizing.public is not None, sizing.continued))
        if sizing.public is not None:
            side = chosen(sizing)["public.data.image_size"]
            macs = measures.macs("finetune", {"model.name": "init", "data.image_size": side})
            assert sizing.budget_macs / macs >= facts.labeled
    assert {(False, False), (True, True)} <= found


def test_regressions_take_a_fifth_of_a_budget_at_most() -> None:
    facts = replace(PHOTOS, class_counts=(5_000,) * 8, side=32)
    for hours in (0.6, 2, 20):
        most = chosen(size(facts, hours))["baselines.max_products"]
        assert 3 * most * SECONDS_PER_PRODUCT <= 1.02 * 0.2 * hours * HOUR * MACHINE.jobs
    assert chosen(size(facts, given={"baselines.max_products": "5e7"}))["baselines.max_products"] == "5e7"


def test_public_weights_compute_the_class_token_only_where_they_pool_it() -> None:
    small = replace(PUBLIC, side=98)
    assert "public.train.class_token_only" not in chosen(size(hours=10, public=small))
    assert (
        chosen(size(hours=10, public=replace(small, pools_class_token=True)))["public.train.class_token_only"] is True
    )


def test_blocks_of_the_command_line_keep_all_their_tokens() -> None:
    assert chosen(size())["scratch.train.class_token_only"] is True
    assert chosen(size(given={"model.ffn": "conv1d_bn"}))["scratch.train.class_token_only"] is False


def test_public_weights_that_would_take_the_budget_are_left_out() -> None:
    """At 518 px the features of 500,000 images alone take days."""
    facts = ImageFacts(class_counts=(50_000,) * 10, side=32)
    sizing = size(facts, hours=30, public=PUBLIC)
    assert sizing.public is None and sizing.skipped[0].startswith("public and continued: the budget is too short")


def test_pretraining_gets_half_of_an_arm_and_at_least_an_epoch() -> None:
    sizing = size(hours=1)
    values = chosen(sizing)
    for stem in ("patchify", "conv"):
        view = {"crops.global_size": values["pretrain.crops.global_size"]}
        macs = FakeMeasures().macs("pretrain", {**_network(sizing), **view, "model.stem": stem})
        batch = values["pretrain.train.batch_size"]
        spent = values[f"pretrain.train.epochs{stem}"] * (PHOTOS.images // batch) * batch * macs
        assert 0 < spent <= PRETRAINING_PART * sizing.budget_macs


@pytest.mark.parametrize("hours", [1 / 60, 0.1, 0.5])
@pytest.mark.parametrize("public", [None, PUBLIC, replace(PUBLIC, side=98)])
@pytest.mark.parametrize("facts", [ImageFacts(class_counts=(50_000,) * 10, side=32), PHOTOS, DIGITS])
def test_a_budget_that_is_too_short_names_one_that_is_not(
    facts: ImageFacts, public: PublicWeights | None, hours: float
) -> None:
    """Also one in which the runs could not even start."""
    try:
        sizing = size(facts, hours, public=public)
    except UserError as error:
        assert f"is too short for {facts.images} images" in str(error)
        enough = read_duration(str(error).split("of about ")[1].split(" at least")[0], "--budget")
        assert hours * HOUR < enough < 100 * HOUR
        sizing = size(facts, enough / HOUR, public=public)
    else:
        assert hours > 1 / 60
    assert chosen(sizing)["pretrain.train.epochsconv"] >= 1


@pytest.mark.parametrize("public", [None, replace(PUBLIC, side=98)])
def test_images_are_reduced_below_32_pixels_only_where_the_budget_would_not_show_each_of_them_once(
    public: PublicWeights | None,
) -> None:
    facts, hours = ImageFacts(class_counts=(50_000,) * 10, side=32), 100.0
    sides, reasons = [], []
    while not sides or hours > 0.1:
        try:
            sizing = size(facts, hours, public=public)
        except UserError:
            break
        sides.append(chosen(sizing)["scratch.data.image_size"])
        reasons += [each.reason for each in sizing.choices if (each.group, each.key) == ("scratch", "data.image_size")]
        if sides[-1] < 32:
            with pytest.raises(UserError, match="too short for 500000 images"):
                size(facts, hours, public=public, given={"data.image_size": 32})
        hours *= 0.9
    assert list(dict.fromkeys(sides)) == [32, 24, 16]
    assert [side < 32 for side in sides] == ["at 32 px the budget would not allow" in reason for reason in reasons]


def test_keys_of_arms_that_are_left_out_are_named_and_change_nothing() -> None:
    given = {"public.data.image_size": 112, "continue.optim.lr": 1e-4}
    sizing, without = size(given=given), size()
    assert any("public.data.image_size, continue.optim.lr: set on the command line" in each for each in sizing.skipped)
    assert (sizing.choices, sizing.taken) == (without.choices, frozenset(given))
    assert not size(hours=240, public=replace(PUBLIC, side=98), given={**given, "public.data.image_size": 98}).skipped


def test_what_a_second_share_or_chosen_lengths_would_take_is_named() -> None:
    def reason(sizing: Sizing, key: str) -> str:
        return next(each.reason for each in sizing.choices if each.key == key)

    few, short = size(replace(PHOTOS, class_counts=(9,) * 10, unlabeled=5000), 24), size(hours=0.5)
    assert reason(few, "label fractions").endswith("a second share would take more labels of a class")
    assert reason(short, "label fractions").endswith("a second share would take a longer budget")
    assert reason(short, "lengths, in budgets") == "nothing is chosen: the budget is too short"
    assert reason(size(hours=24, may_tune=False), "lengths, in budgets") == "nothing is chosen: tune=none"


@pytest.mark.parametrize(("seeds", "tuned_on"), [((0, 1, 2), 100), ((99, 100, 101), 102), ((101, 102, 103), 100)])
def test_lengths_are_chosen_on_a_seed_that_is_not_reported(seeds: tuple[int, ...], tuned_on: int) -> None:
    """A sizing with the seed 100 ended with an error about a section that the user had not written."""
    design = size(hours=20, seeds=seeds).design
    assert design.tuned and design.seeds == seeds and design.tuning_seed == tuned_on


def test_few_labels_leave_one_share() -> None:
    few = replace(PHOTOS, class_counts=(9,) * 10, unlabeled=5000)
    assert size(few, 24).design.shares == (1.0,)
    assert size(replace(few, class_counts=(10,) * 10), 24).design.shares == (0.5, 1.0)
    assert size(replace(few, class_counts=(20,) * 10), 24).design.shares == (0.25, 1.0)
    assert size(replace(few, class_counts=(50,) * 10), 24).design.shares == (0.1, 1.0)


def test_images_without_a_label_count_for_pretraining_alone() -> None:
    few = replace(PHOTOS, class_counts=(10,) * 10, unlabeled=6000)
    values = chosen(size(few, 24))
    assert values["pretrain.dino.out_dim"] == 256
    assert values["finetune.train.batch_size"] == 32


def test_tiny_and_gray_images_have_views_of_their_own() -> None:
    values = chosen(size(DIGITS))
    assert values["pretrain.crops.num_local"] == 0
    assert values["pretrain.crops.hue"] == 0.0
    assert values["finetune.augment.hflip_prob"] == 0.0
    assert values["scratch.data.image_size"] == 12
    colored = chosen(size())
    assert "pretrain.crops.hue" not in colored
    assert colored["pretrain.crops.num_local"] == 0
    assert 2 * colored["pretrain.crops.global_size"] == colored["scratch.data.image_size"]


def test_classes_of_unequal_size_are_noticed() -> None:
    assert not size(replace(PHOTOS, class_counts=(100, 199))).imbalanced
    assert size(replace(PHOTOS, class_counts=(100, 200))).imbalanced


def test_the_metric_is_a_choice_with_a_reason() -> None:
    reasons = {each.value: each.reason for each in size().choices if each.key == "metric"}
    assert reasons == {
        "top-1 accuracy": "classes of 500 to 500 training images: the largest has less than 2 times as many as the smallest"
    }
    reasons = {
        each.value: each.reason for each in size(replace(PHOTOS, class_counts=(9, 168))).choices if each.key == "metric"
    }
    assert reasons == {
        "balanced accuracy": "classes of 9 to 168 training images: every class counts alike, whatever its size"
    }


@pytest.mark.parametrize(
    ("counts", "value", "reasons"),
    [
        ({"a": 10, "b": 50}, None, []),
        (
            {"a": 1, "b": 50, "c": 9, "d": 20},
            "1 to 50",
            ["fewer than 10 in 2 of 4 classes, so the intervals are over seeds alone: one image of 'a' is 25.0 points"],
        ),
        (
            {"a": 10, "b": 50, "rare": 0},
            "0 to 50",
            ["none of 'rare', of which no metric tells anything"],
        ),
    ],
)
def test_classes_with_few_test_images_are_named_before_anything_runs(
    counts: dict[str, int], value: str | None, reasons: list[str]
) -> None:
    sizing = size(replace(PHOTOS, class_counts=(10, 200), test_counts=counts))
    notes = [each for each in sizing.choices if each.key == "test images of a class"]
    assert [each.value for each in notes] == ([] if value is None else [value])
    assert all(reason in note.reason for note, reason in zip(notes, reasons, strict=True))


def test_few_test_images_of_a_class_do_not_matter_where_images_count_alike() -> None:
    sizing = size(replace(PHOTOS, class_counts=(20, 30), test_counts={"a": 5, "b": 8}))
    assert not [each for each in sizing.choices if each.key == "test images of a class"]


def test_a_key_of_the_command_line_counts_and_what_follows_follows() -> None:
    given = {"model.name": "vit_compact", "data.image_size": 32, "pretrain.train.epochs": 3, "public.optim.lr": 1e-5}
    sizing = size(hours=24, given=given, public=replace(PUBLIC, side=98))
    values = chosen(sizing)
    assert (values["scratch.model.name"], values["scratch.data.image_size"]) == ("vit_compact", 32)
    assert values["pretrain.crops.global_size"] == 16
    assert values["pretrain.train.epochspatchify"] == values["pretrain.train.epochsconv"] == 3
    assert values["pretrain.optim.warmup_epochspatchify"] == 0.3
    assert values["public finetune.optim.lr"] == 1e-5
    assert sizing.taken == set(given)
    reasons = {f"{each.group}.{each.key}": each.reason for each in sizing.choices}
    assert reasons["scratch.model.name"] == GIVEN


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UserError, match="trains one of vit_mini, vit_micro"):
        size(given={"model.name": "resnet50"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.image_size", [32, 48]),
        ("data.image_size", 0),
        ("model.patch_size", "large"),
        ("train.batch_size", 1.5),
        ("pretrain.train.epochs", -1),
        ("public.data.image_size", "any"),
    ],
)
def test_sizes_must_be_whole_numbers(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{key} = .*must be a whole number above 0"):
        size(hours=24, given={key: value}, public=PUBLIC)


@pytest.mark.parametrize("given", [{"model.patch_size": 7}, {"data.image_size": 30, "model.patch_size": 8}])
def test_an_input_that_is_no_multiple_of_the_patch_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="multiple of"):
        size(replace(PHOTOS, side=32), given=given)


def test_public_weights_that_cost_too_much_are_left_out_with_a_reason() -> None:
    cheap = size(hours=2000, public=PUBLIC)
    assert cheap.public is not None
    assert cheap.continued
    assert chosen(cheap)["public.data.image_size"] in PUBLIC.sides()
    dear = size(hours=0.5, public=PUBLIC)
    assert dear.public is None
    assert not dear.continued
    assert "the budget is too short" in dear.skipped[0]


def test_public_sides_are_multiples_of_the_patch_the_largest_first() -> None:
    assert PUBLIC.sides()[0] == 518
    assert all(side % 14 == 0 and side >= 84 for side in PUBLIC.sides())
    assert PublicWeights("x", 16, 4, 10).sides()[0] == 16


def test_a_gpu_trains_in_the_precision_that_was_measured() -> None:
    for ratio, precision in ((8.0, "bf16"), (0.5, "fp32")):
        gpu = size_study(PHOTOS, Machine(1, 16, "cuda", "a GPU", ratio), HOUR, FakeMeasures(1e12))
        assert chosen(gpu)["every run.train.precision"] == precision
        assert chosen(gpu)["every run.data.workers"] == "auto"
    assert not [each for each in size().choices if each.group == "every run"]


def test_every_choice_has_a_reason() -> None:
    for sizing in (size(), size(DIGITS), size(hours=200, public=PUBLIC)):
        assert all(each.reason for each in sizing.choices)
        keys = [(each.group, each.key, each.stem) for each in sizing.choices]
        assert len(set(keys)) == len(keys)
