"""Image sizes: a side or (height, width)."""

from common.sizes import height_and_width


def test_an_integer_is_the_side_of_a_square() -> None:
    assert height_and_width(224) == (224, 224)


def test_a_pair_is_height_and_width() -> None:
    assert height_and_width((256, 128)) == (256, 128)
