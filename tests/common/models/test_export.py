"""An export loaded with timm must give the same logits, in a program with timm alone where timm has the network."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import VisionTransformer

from common.models.export import export_network
from common.models.networks import ModelConfig, build_network

READER = """
import sys, torch, timm
from safetensors.torch import load_file
images, project = load_file(sys.argv[1])["images"], sys.argv[2]

def read(folder):
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    torch.save(model(images), f"{folder}/logits.pt")

read(sys.argv[3])
assert not any(name.startswith("common") for name in sys.modules)
sys.path.insert(0, project)
import common.models
read(sys.argv[4])
"""


def _export(folder: Path, *, num_classes: int = 3, **config: Any) -> VisionTransformer:
    network = ModelConfig(**{"name": "vit_mini", **config})
    torch.manual_seed(0)
    model = build_network(network, image_size=16, num_classes=num_classes, multi_crop=num_classes == 0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    export_network(
        model.train(),
        folder,
        model_name=network.name,
        class_names=["cat", "dog", "Öl"],
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        image_size=16,
        metrics={"test_top1": 97.5},
    )
    return model.eval()


def test_separate_program_loads_the_exports(tmp_path: Path) -> None:
    """A network with a patchify stem is loaded with timm alone, then one with a conv stem after `import common.models`."""
    folders = {stem: tmp_path / stem for stem in ("patchify", "conv")}
    models = {stem: _export(folder, stem=stem, patch_size=8) for stem, folder in folders.items()}
    images, file = torch.randn(2, 3, 16, 16), tmp_path / "images.safetensors"
    save_file({"images": images}, file)
    project = Path(__file__).parents[3]
    command = [sys.executable, "-c", READER, *map(str, (file, project, *folders.values()))]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    for stem, model in models.items():
        logits = torch.load(folders[stem] / "logits.pt", weights_only=True)
        torch.testing.assert_close(logits, model(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"patch_size": 2, "stem": "3Conv+3GELU+1Proj+1BN", "stem_strides": (1, 2, 1, 1)},
        {"name": "vit_p_1gf", "patch_size": 4},
        {"name": "vit_c_1gf"},
    ],
    ids=["strides", "mlp-ratio-3", "early-convolutions"],
)
def test_loaded_export_has_the_same_logits(tmp_path: Path, config: dict[str, Any]) -> None:
    model, images = _export(tmp_path, **config), torch.randn(2, 3, 16, 16)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "size", "architecture"),
    [
        ({"ffn": "mlp_relu"}, 16, "vit_base_patch16_224"),
        ({"ffn": "no_norm"}, 16, "vit_mini.import_common_models"),
        ({"ffn": "conv1d_bn"}, 16, "vit_mini.import_common_models"),
        ({"ffn": "conv1d", "stem": "conv"}, 16, "vit_mini.import_common_models"),
        ({"name": "volo_d1"}, 32, "volo_d1_224"),
        ({"name": "volo_d1", "stem": "patchify"}, 32, "volo_d1.import_common_models"),
        ({"name": "volo_d1", "patch_size": 4}, (16, 24), "volo_d1_224"),
        ({"name": "volo_mini", "ffn": "conv1d_bn"}, 16, "volo_mini.import_common_models"),
        ({"name": "regnety_mini"}, 64, "regnety_040"),
        ({"name": "regnety_mini"}, 32, "regnety_mini.import_common_models"),
    ],
)
def test_export_uses_timms_name_where_timm_has_the_network(
    tmp_path: Path, config: dict[str, Any], size: int | tuple[int, int], architecture: str
) -> None:
    network = ModelConfig(**{"name": "vit_mini", **config})
    torch.manual_seed(0)
    model = build_network(network, image_size=size, num_classes=3).eval()
    export_network(
        model,
        tmp_path,
        model_name=network.name,
        class_names=["a", "b", "c"],
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        image_size=size if isinstance(size, int) else size[0],
        metrics={},
    )
    assert json.loads((tmp_path / "config.json").read_text())["architecture"] == architecture
    images = torch.randn(2, 3, *((size, size) if isinstance(size, int) else size))
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=1e-6)
    fewer = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, num_classes=2).eval()
    assert fewer(images).shape == (2, 2)


def test_export_without_a_classifier_returns_features(tmp_path: Path) -> None:
    model, images = _export(tmp_path, num_classes=0), torch.randn(2, 3, 16, 16)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert loaded(images).shape == (2, 64)
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=1e-6)
    assert "label_names" not in json.loads((tmp_path / "config.json").read_text())


def test_timm_reads_the_data_config_and_the_class_names(tmp_path: Path) -> None:
    _export(tmp_path, stem="conv")
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    data = timm.data.resolve_model_data_config(loaded)
    assert (data["mean"], data["std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    assert data["input_size"] == (3, 16, 16) and data["interpolation"] == "bicubic"
    assert loaded.pretrained_cfg["label_names"] == ["cat", "dog", "Öl"]
    assert json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))["metrics"] == {"test_top1": 97.5}


def test_export_replaces_the_previous_one_and_leaves_no_other_files(tmp_path: Path) -> None:
    _export(tmp_path, stem="conv")
    model = _export(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()


@pytest.mark.parametrize("stem", ["patchify", "1Proj+1ReLU", "conv", "vit_c_1gf"])
def test_first_conv_names_the_convolution_on_the_image(tmp_path: Path, stem: str) -> None:
    patch_size = 16 if stem == "vit_c_1gf" else 4
    model = _export(tmp_path, stem=stem, patch_size=patch_size)
    config = json.loads((tmp_path / "config.json").read_text())
    assert model.get_submodule(config["pretrained_cfg"]["first_conv"]).in_channels == 3


def test_number_of_classes_stands_once_where_transformers_reads_it(tmp_path: Path) -> None:
    _export(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["num_classes"] == 3 and "num_classes" not in config["model_args"]
    assert "requires" not in config


UNKNOWN = """
import sys, timm
try:
    timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True)
except RuntimeError as error:
    print(error)
"""


def test_config_and_error_name_the_import_that_timm_lacks(tmp_path: Path) -> None:
    _export(tmp_path, stem="conv")
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert "import common.models" in config["requires"] and config["network"]["name"] == "vit_mini"
    command = [sys.executable, "-c", UNKNOWN, str(tmp_path)]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert process.stdout == "Unknown model (vit_mini.import_common_models)\n"


@pytest.mark.parametrize("config", [{}, {"stem": "conv"}, {"num_classes": 0}], ids=["timm", "imported", "backbone"])
def test_transformers_gives_the_same_logits_and_class_names(tmp_path: Path, config: dict[str, Any]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is no dependency of this project")
    model, images = _export(tmp_path, **config), torch.randn(2, 3, 16, 16)
    automatic = transformers.AutoModelForImageClassification if model.num_classes else transformers.AutoModel
    loaded, loading = automatic.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(loading.values()), loading
    output = loaded.eval()(pixel_values=images)
    outputs = output.logits if model.num_classes else output.pooler_output
    torch.testing.assert_close(outputs, model(images), rtol=0, atol=1e-5)
    if model.num_classes:
        assert list(loaded.config.id2label.values()) == ["cat", "dog", "Öl"]
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    assert tuple(processor.data_config["input_size"]) == (3, 16, 16)
