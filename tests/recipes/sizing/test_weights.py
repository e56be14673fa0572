"""Public weights of a sized study."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from recipes.sizing.weights import find_public


def test_no_weights_are_wanted() -> None:
    public, skipped = find_public(None)
    assert public is None
    assert "--public none" in skipped[0]


def test_weights_that_cannot_be_had_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    public, skipped = find_public("timm:vit_small_patch14_reg4_dinov2.lvd142m")
    assert public is None
    assert "timm:vit_small_patch14_reg4_dinov2.lvd142m cannot be had here" in skipped[0]
    assert "\n" not in skipped[0]
    assert "use their file or folder" in skipped[0] and "init" not in skipped[0]


def test_a_file_of_weights_is_described(tmp_path: Path) -> None:
    network = build_network(ModelConfig(name="vit_tiny", patch_size=16), image_size=96, num_classes=0, in_chans=3)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    public, skipped = find_public(str(tmp_path / "weights.safetensors"))
    assert public is not None
    assert not skipped
    assert (public.patch, public.is_own, public.is_small) == (16, False, False)
    assert public.parameters == pytest.approx(5.4e6, rel=0.05)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("missing/weights.safetensors", "missing/weights.safetensors"),
        ("timm:vit_smal_patch16_224", "Did you mean vit_small_patch16_224"),
        ("no_such_name", "no_such_name"),
    ],
)
def test_a_wrong_name_is_a_mistake_and_no_absence(init: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        find_public(init)
    assert str(error.value).startswith("--public") and "init" not in str(error.value)


def test_a_file_that_holds_no_weights_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"none")
    with pytest.raises(
        UserError, match=r"--public: .*weights\.safetensors is not a complete safetensors file"
    ) as error:
        find_public(str(path))
    assert "init" not in str(error.value)


def test_no_part_of_a_path_is_taken_for_the_key(tmp_path: Path) -> None:
    """A message has the path as it was given, whatever it contains."""
    path = tmp_path / "set init to" / "init: weights.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"none")
    with pytest.raises(UserError) as error:
        find_public(str(path))
    assert str(error.value).startswith("--public: ") and str(path) in str(error.value)


def test_weights_whose_network_is_not_known_are_a_mistake(tmp_path: Path) -> None:
    save_file({"layer.weight": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"--public .*other\.safetensors: .* network is known. Give other weights"):
        find_public(str(tmp_path / "other.safetensors"))
