"""The names of the papers' tables, and what users meet when a name or its strides are wrong."""

import math

import pytest

from common.errors import UserError
from common.models.stem_grammar import PAPER_STEMS, XIAO_STEMS, parse_stem, stem_problems


@pytest.mark.parametrize("name", PAPER_STEMS)
def test_every_name_describes_itself(name: str) -> None:
    spec = parse_stem(name)
    count = len(spec.kernels)
    parts = [f"{count}Conv"] if count else []
    parts += [f"{count}BN"] if spec.norm else []
    parts += [f"{count}{spec.activation}"] if spec.activation else []
    parts += ["1Proj"] + (["1BN"] if spec.projection_norm else [])
    parts += [f"1{spec.projection_activation}"] if spec.projection_activation else []
    assert "+".join(parts) == spec.name == name


def test_aliases_and_other_counts_are_of_the_same_grammar() -> None:
    assert parse_stem("patchify") == parse_stem("1Proj")
    assert parse_stem("conv") == parse_stem("3Conv+3BN+3ReLU+1Proj")
    assert parse_stem("5Conv+5BN+5GELU+1Proj+1BN").kernels == (7, 3, 3, 3, 3)


def test_stems_of_early_convolutions_have_the_published_rows() -> None:
    assert parse_stem("vit_c_1gf").channels == (24, 48, 96, 192)
    assert parse_stem("vit_c_36gf").channels == (64, 128, 128, 256, 256, 512)
    assert parse_stem("vit_c_18gf").strides(16) == (2, 2, 1, 2, 1, 2, 1)
    patch = {name: 4 if name in ("vit_c_mini", "vit_c_micro") else 16 for name in XIAO_STEMS}
    assert all(set(s.kernels) == {3} and math.prod(s.strides(patch[n])) == patch[n] for n, s in XIAO_STEMS.items())


@pytest.mark.parametrize(
    ("patch_size", "strides"), [(16, (2, 1, 1, 8)), (8, (2, 1, 1, 4)), (2, (2, 1, 1, 1)), (7, (1, 1, 1, 7))]
)
def test_strides_follow_from_the_patch(patch_size: int, strides: tuple[int, ...]) -> None:
    assert parse_stem("conv").strides(patch_size) == strides
    assert parse_stem("patchify").strides(patch_size) == (patch_size,)


@pytest.mark.parametrize("name", ["3Conv+3BM+1Proj", "3Conv+2BN+1Proj", "3conv+3bn+1proj"])
def test_an_unknown_stem_lists_the_choices_and_the_nearest(name: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_stem(name)
    message = str(caught.value)
    assert message.startswith(f"model.stem: '{name}' is unknown, the nearest is '3Conv+3BN+1Proj'")
    assert all(choice in message for choice in ("patchify", "vit_c_36gf", "1Proj+1BN+1ReLU", "[kConv"))


@pytest.mark.parametrize(
    ("name", "strides", "patch_size", "words"),
    [
        (
            "conv",
            (2, 1, 1, 4),
            16,
            "[2,1,1,4] multiplies to 8, but the patch is 16: give 4 strides that multiply to 16",
        ),
        ("conv", (4, 4), 16, "[4,4] does not fit 3Conv+3BN+3ReLU+1Proj: give 4 positive strides"),
        ("conv", (-2, 1, -1, 8), 16, "give 4 positive strides, the projection's last, for example [2,1,1,8]"),
        ("vit_c_4gf", None, 4, "[2,2,2,2,1] multiplies to 16, but the patch is 4"),
    ],
)
def test_wrong_strides_are_answered_with_right_ones(
    name: str, strides: tuple[int, ...] | None, patch_size: int, words: str
) -> None:
    (problem,) = stem_problems(name, strides, patch_size)
    assert problem[0] == "stem_strides" and words in problem[1]


def test_right_strides_raise_no_problem() -> None:
    for strides in ((2, 1, 1, 8), (2, 2, 2, 2), (1, 1, 1, 16), None):
        assert not list(stem_problems("conv", strides, 16))
