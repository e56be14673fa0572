"""What a recipe takes from its weights: the network, the patch size and the normalization, unless it sets them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from common.errors import UserError
from common.evaluation.config import KnnEvaluationConfig
from common.models.export import export_network
from common.models.init_network import follow_init, network_of_init
from common.models.networks import ModelConfig, build_network
from common.models.weights import load_init
from pretrain.config import PretrainConfig


def _recipe(init: str | None, model: dict[str, Any] | None = None, **data: Any) -> KnnEvaluationConfig:
    return KnnEvaluationConfig(
        out="out", init=init, model=ModelConfig(**(model or {})), data={"image_size": 32, **data}
    )


def _official(path: Path, **options: Any) -> str:
    network = timm.create_model("vit_small_patch16_224", embed_dim=64, depth=2, num_heads=1, num_classes=0, **options)
    torch.save(network.state_dict(), path)
    return str(path)


@pytest.mark.parametrize(
    ("init", "name", "patch_size"),
    [
        ("timm:vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2", 14),
        ("vit_base_patch16_dinov3.lvd1689m", "vit_base_patch16_dinov3", 16),
        ("timm:vit_small_patch8_224.dino", "vit_small", 8),
        ("vit_base_patch16_224.mae", "vit_base", 16),
        ("vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_224", 16),
    ],
)
def test_name_of_timm_tells_the_network(init: str, name: str, patch_size: int) -> None:
    followed = follow_init(_recipe(init, {"name": "init"}))
    assert (followed.model.name, followed.model.patch_size, followed.model.kwargs) == (name, patch_size, ())


def test_normalization_comes_with_the_weights_unless_set(caplog: pytest.LogCaptureFixture) -> None:
    init = "timm:vit_base_patch16_224.augreg_in21k"
    with caplog.at_level(logging.INFO):
        followed = follow_init(_recipe(init, {"name": "vit_base"}))
    assert followed.data.mean == followed.data.std == (0.5, 0.5, 0.5)
    assert "init: data.mean = [0.5, 0.5, 0.5], of the weights" in caplog.text
    given = follow_init(_recipe(init, {"name": "vit_base"}, mean=(0.1, 0.2, 0.3)))
    assert given.data.mean == (0.1, 0.2, 0.3) and given.data.std == (0.5, 0.5, 0.5)
    of_timm = follow_init(_recipe("vit_base_patch16_clip_224.openai", {"name": "vit_base_patch16_clip_224"}))
    assert of_timm.data.mean[0] == pytest.approx(
        0.4815, abs=1e-4
    )  # the patch size, which the name states, does not hide it


def test_normalization_of_images_of_other_channels_is_that_of_the_recipe() -> None:
    init, model = "timm:vit_base_patch16_224.augreg_in21k", {"name": "vit_base"}
    assert follow_init(_recipe(init, model, channels=1, mean="measured", std="measured")).data.mean == "measured"
    assert follow_init(_recipe(init, model, channels=4, mean=0.4, std=0.2)).data.statistics() == (
        (0.4,) * 4,
        (0.2,) * 4,
    )


def test_normalization_of_a_folder_of_transformers_is_read(tmp_path: Path) -> None:
    network = timm.create_model("vit_small_patch16_224", embed_dim=64, depth=1, num_heads=1, num_classes=0)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}')
    followed = follow_init(_recipe(str(tmp_path)))
    assert (followed.data.mean, followed.data.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_patch_size_comes_with_the_weights_unless_set(tmp_path: Path) -> None:
    init = _official(tmp_path / "w.pth", img_size=32, patch_size=8)
    assert follow_init(_recipe(init)).model.patch_size == 8
    assert follow_init(_recipe(init, {"patch_size": 4})).model.patch_size == 4
    assert follow_init(_recipe(init, {"stem": "conv"})).model.patch_size is None
    assert follow_init(_recipe("timm:vit_small_patch8_224.dino")).model.patch_size == 8
    assert follow_init(_recipe("timm:vit_small_patch16_224.dino")).model.patch_size is None


def test_weights_for_other_channels_tell_the_network(tmp_path: Path) -> None:
    torch.save(timm.create_model("vit_small_patch8_224", num_classes=0, in_chans=4).state_dict(), tmp_path / "w.pth")
    model = follow_init(_recipe(str(tmp_path / "w.pth"), {"name": "init"})).model
    assert (model.name, model.patch_size, model.kwargs) == ("vit_small", 8, ())


@pytest.mark.parametrize("init", [None, "runs/absent", "timm:vit_small_patch16_224.dino"])
def test_recipe_that_needs_nothing_of_its_weights_is_unchanged(init: str | None) -> None:
    recipe = _recipe(init)
    assert follow_init(recipe) is recipe


def test_own_run_names_its_network_and_its_normalization_unless_set(tmp_path: Path) -> None:
    network = build_network(ModelConfig(name="vit_mini", stem="conv", ffn="mlp_relu"), image_size=16, num_classes=3)
    export_network(
        network,
        tmp_path,
        model_name="vit_mini",
        class_names=[],
        mean=(0.3,) * 3,
        std=(0.3,) * 3,
        image_size=16,
        metrics={},
    )
    recipe = _recipe(str(tmp_path), {"name": "vit_mini"}, mean=(0.1,) * 3, std=(0.2,) * 3)
    assert follow_init(recipe) is recipe
    followed = follow_init(_recipe(str(tmp_path), {"name": "init"}))
    load_init(build_network(followed.model, image_size=16, num_classes=3), str(tmp_path))
    assert (followed.model.name, followed.model.ffn, followed.data.mean) == ("vit_mini", "mlp_relu", (0.3,) * 3)
    named = _recipe(str(tmp_path), {"name": "vit_mini"})
    assert follow_init(named) is named, "as in the runs and studies there are: both recipes state it"
    gray = _recipe(str(tmp_path), {"name": "vit_mini"}, channels=1, mean=(0.5,), std=0.5)
    assert follow_init(gray) is gray


def test_export_of_a_timm_network_names_it_again_and_loads_in_timm_alone(tmp_path: Path) -> None:
    kwargs = ("embed_dim=64", "depth=2", "num_heads=1", "init_values=0.5")
    for name in ("vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"):
        config = ModelConfig(name=name, patch_size=8, kwargs=kwargs)
        network = build_network(config, image_size=32, num_classes=3, multi_crop=True).eval()
        options = {
            "class_names": ["a", "b", "c"],
            "mean": (0.5,) * 3,
            "std": (0.5,) * 3,
            "image_size": 32,
            "metrics": {},
        }
        export_network(network, tmp_path / name, model_name=name, **options)
        images = torch.randn(2, 3, 32, 32)
        alone = timm.create_model(f"local-dir:{tmp_path / name}", pretrained=True).eval()
        assert torch.equal(alone(images), network(images))
        told = network_of_init(str(tmp_path / name)).config()
        again = build_network(told, image_size=32, num_classes=3).eval()
        load_init(again, str(tmp_path / name))
        assert torch.equal(again(images), network(images)) and told.name == name


@pytest.mark.parametrize(
    ("init", "words"),
    [
        (None, "init stands for the network of the weights, but init is none"),
        ("timm:resnet50.a1_in1k", "resnet50, which is not a vision transformer"),
        ("runs/absent", "Name it, or correct init(.|\n)*runs/absent' is not a file"),
    ],
)
def test_network_that_cannot_be_told_is_refused(init: str | None, words: str) -> None:
    with pytest.raises(UserError, match=f"model.name: .*{words}"):
        follow_init(_recipe(init, {"name": "init"}))


def test_number_of_heads_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    network = timm.create_model("vit_small_patch16_224", embed_dim=96, depth=1, num_heads=3, num_classes=0)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"96 wide: nothing states.*; set model\.kwargs=\[num_heads="):
        follow_init(_recipe(str(tmp_path / "w.pth"), {"name": "init"}))
    model = follow_init(_recipe(str(tmp_path / "w.pth"), {"name": "init", "kwargs": ("num_heads=3",)})).model
    assert "num_heads=3" in model.kwargs and "embed_dim=96" in model.kwargs


def test_activation_that_timm_has_not_is_refused(tmp_path: Path) -> None:
    _official(tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "hidden_act": "relu"}))
    with pytest.raises(UserError, match="activation function relu"):
        network_of_init(str(tmp_path))


def test_clip_without_its_activation_asks_for_the_name(tmp_path: Path) -> None:
    network = timm.create_model("vit_base_patch16_clip_224", embed_dim=64, depth=1, num_heads=1, num_classes=0)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="vit_base_patch16_clip_quickgelu_224"):
        network_of_init(str(tmp_path / "w.pth"))


def test_crops_are_checked_against_the_patch_of_the_weights(tmp_path: Path) -> None:
    init = _official(tmp_path / "w.pth", img_size=28, patch_size=14)
    crops = {"global_size": 56, "local_size": 24}
    recipe = PretrainConfig(out="out", init=init, model=ModelConfig(name="init"), data={"image_size": 56}, crops=crops)
    with pytest.raises(UserError, match=r"crops\.local_size: 24 is not a multiple of model\.patch_size = 14"):
        follow_init(recipe)


def test_epsilon_that_timm_takes_not_is_exported_for_this_project_and_stated(tmp_path: Path) -> None:
    kwargs = ("embed_dim=64", "depth=1", "num_heads=1", "norm_eps=0.01")
    config = ModelConfig(name="vit_base_patch16_224", patch_size=8, kwargs=kwargs)
    network = build_network(config, image_size=32, num_classes=0)
    options = {"class_names": [], "mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": 32, "metrics": {}}
    export_network(network, tmp_path, model_name="vit_base_patch16_224", **options)
    told = network_of_init(str(tmp_path)).config()
    assert build_network(told, image_size=32, num_classes=0).norm.eps == network.norm.eps == 0.01
    exported = json.loads((tmp_path / "config.json").read_text())
    assert "norm_eps" not in exported["model_args"]
    assert any("epsilon of their own, here 0.01" in line for line in exported["evaluation"]["different_in_timm"])
