"""Stem names of the papers' tables, and the errors for invalid names and strides."""

import math

import pytest

from common.errors import UserError
from common.models.stem_registry import PAPER_STEMS, XIAO_STEMS, parse_stem, stem_problems


@pytest.mark.parametrize("name", PAPER_STEMS)
def test_every_name_is_described_by_its_specification(name: str) -> None:
    spec = parse_stem(name)
    count = len(spec.kernels)
    parts = [f"{count}Conv"] if count else []
    parts += [f"{count}BN"] if spec.norm else []
    parts += [f"{count}{spec.activation}"] if spec.activation else []
    parts += ["1Proj"] + (["1BN"] if spec.projection_norm else [])
    parts += [f"1{spec.projection_activation}"] if spec.projection_activation else []
    assert "+".join(parts) == spec.name == name


def test_grammar_accepts_aliases_and_other_counts() -> None:
    assert parse_stem("patchify") == parse_stem("1Proj")
    assert parse_stem("conv") == parse_stem("3Conv+3BN+3ReLU+1Proj")
    assert parse_stem("5Conv+5BN+5GELU+1Proj+1BN").kernels == (7, 3, 3, 3, 3)


def test_early_convolutions_stems_have_the_published_values() -> None:
    assert parse_stem("vit_c_1gf").channels == (24, 48, 96, 192)
    assert parse_stem("vit_c_36gf").channels == (64, 128, 128, 256, 256, 512)
    assert parse_stem("vit_c_18gf").strides(16) == (2, 2, 1, 2, 1, 2, 1)
    patch = {name: 4 if name in ("vit_c_mini", "vit_c_micro") else 16 for name in XIAO_STEMS}
    assert all(set(s.kernels) == {3} and math.prod(s.strides(patch[n])) == patch[n] for n, s in XIAO_STEMS.items())


@pytest.mark.parametrize(
    ("patch_size", "strides"), [(16, (2, 1, 1, 8)), (8, (2, 1, 1, 4)), (2, (2, 1, 1, 1)), (7, (1, 1, 1, 7))]
)
def test_default_strides_depend_on_the_patch_size(patch_size: int, strides: tuple[int, ...]) -> None:
    assert parse_stem("conv").strides(patch_size) == strides
    assert parse_stem("patchify").strides(patch_size) == (patch_size,)


@pytest.mark.parametrize("name", ["3Conv+3BM+1Proj", "3Conv+2BN+1Proj", "3conv+3bn+1proj"])
def test_unknown_stem_lists_the_choices_and_the_nearest(name: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_stem(name)
    message = str(caught.value)
    assert message.startswith(f"model.stem: '{name}' is unknown. Did you mean 3Conv+3BN+1Proj?")
    assert all(choice in message for choice in ("patchify", "vit_c_36gf", "1Proj+1BN+1ReLU", "[kConv"))


@pytest.mark.parametrize(
    ("name", "strides", "patch_size", "expected"),
    [
        (
            "conv",
            (2, 1, 1, 4),
            16,
            "[2,1,1,4] has the product 8, but the patch size is 16: set 4 strides with the product 16",
        ),
        ("conv", (4, 4), 16, "[4,4] does not fit 3Conv+3BN+3ReLU+1Proj: set 4 positive strides"),
        ("conv", (-2, 1, -1, 8), 16, "set 4 positive strides, the projection's last, for example [2,1,1,8]"),
        ("vit_c_4gf", None, 4, "[2,2,2,2,1] has the product 16, but the patch size is 4"),
    ],
)
def test_invalid_strides_are_reported_with_valid_ones(
    name: str, strides: tuple[int, ...] | None, patch_size: int, expected: str
) -> None:
    (problem,) = stem_problems(name, strides, patch_size)
    assert problem[0] == "stem_strides" and expected in problem[1]


def test_valid_strides_have_no_problem() -> None:
    for strides in ((2, 1, 1, 8), (2, 2, 2, 2), (1, 1, 1, 16), None):
        assert not list(stem_problems("conv", strides, 16))
