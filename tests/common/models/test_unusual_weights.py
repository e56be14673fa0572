"""Files of weights that other programs leave: containers, training-only tensors, shards, half precision, unsupported kinds."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from common.errors import UserError
from common.evaluation.config import KnnEvaluationConfig
from common.models import hub
from common.models.hub import split_repository
from common.models.init_network import follow_init, network_of_init
from common.models.networks import ModelConfig, build_network
from common.models.transformers_layout import from_transformers
from common.models.weight_files import read_weights
from common.models.weights import load_init

OPTIONS: dict[str, Any] = {
    "embed_dim": 64,
    "depth": 1,
    "num_heads": 1,
    "img_size": 32,
    "patch_size": 8,
    "num_classes": 0,
}
KWARGS = ("embed_dim=64", "depth=1", "num_heads=1")


def _state(name: str = "vit_base_patch16_224", **options: Any) -> dict[str, Tensor]:
    return dict(timm.create_model(name, **OPTIONS | options).state_dict())


def _load(init: Path, num_classes: int = 0, name: str = "vit_base_patch16_224", **options: Any) -> Any:
    network = build_network(ModelConfig(name=name, patch_size=8, kwargs=KWARGS), image_size=32, num_classes=num_classes)
    return load_init(network, str(init), **options)


STATE = _state()
ZEROS = {name: torch.zeros_like(tensor) for name, tensor in STATE.items()}
CONTENTS: dict[str, Any] = {
    "iBOT": {
        "state_dict": STATE | {"masked_embed": torch.zeros(1, 64), "head.last_layer2.weight_g": torch.zeros(2, 1)}
    },
    "MoCo v3": {
        "state_dict": {f"module.base_encoder.{name}": t for name, t in STATE.items()}
        | {"module.base_encoder.head.0.weight": torch.zeros(2)}
    },
    "AveragedModel": {f"module.{name}": t for name, t in STATE.items()} | {"n_averaged": torch.tensor(3)},
    "AveragedModel within": {
        "model_state": {f"module.{name}": t for name, t in STATE.items()} | {"n_averaged": torch.tensor(3)}
    },
    "net": {"net": STATE},
    "network": {"network": STATE},
    "MSN": {"encoder": ZEROS, "target_encoder": STATE},
    "integer keys": {0: 1, "model": STATE},
}


@pytest.mark.parametrize("program", CONTENTS)
def test_network_is_found_in_the_file_of(program: str, tmp_path: Path) -> None:
    torch.save(CONTENTS[program], tmp_path / "w.pth")
    tensors = read_weights(str(tmp_path / "w.pth")).network.tensors
    assert tensors.keys() == STATE.keys() and all(torch.equal(tensors[name], STATE[name]) for name in STATE)
    _load(tmp_path / "w.pth")


def test_pickle_whose_first_key_is_a_number_is_one_error(tmp_path: Path) -> None:
    torch.save({0: torch.zeros(1), "model": {"a": 1}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth has no named tensors"):
        read_weights(str(tmp_path / "w.pth"))


def test_weights_of_pytorch_in_several_files_are_read(tmp_path: Path) -> None:
    shards = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
    names = sorted(STATE)
    index = {name: shards[number % 2] for number, name in enumerate(names)}
    for shard in shards:
        torch.save({name: STATE[name] for name in names if index[name] == shard}, tmp_path / shard)
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    tensors = read_weights(str(tmp_path)).network.tensors
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)
    (tmp_path / shards[1]).unlink()
    with pytest.raises(
        UserError, match=rf"lacks 1 of the 2 files that pytorch_model\.bin\.index\.json names: '{shards[1]}'"
    ):
        read_weights(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "words"),
    [("tf_model.h5", "weights of TensorFlow"), ("adapter_model.safetensors", "peft's adapters without")],
)
def test_folder_with_weights_of_another_kind_names_them(file: str, words: str, tmp_path: Path) -> None:
    (tmp_path / file).touch()
    with pytest.raises(UserError, match=rf"has {file}, {words}"):
        read_weights(str(tmp_path))


KINDS: dict[str, tuple[dict[str, Tensor], str]] = {
    "XCiT": ({"pos_embeder.token_projection.weight": torch.zeros(1)}, "weights of XCiT, which is not supported"),
    "ResNet": (
        {"conv1.weight": torch.zeros(4, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(1)},
        "weights of a convolutional network such as ResNet",
    ),
    "linear": (
        {"linear.weight": torch.zeros(2, 4), "linear.bias": torch.zeros(2)},
        "linear classifier alone; use those of its",
    ),
    "BEiT": (
        _state("beit_base_patch16_224"),
        "weights with a relative position bias, as BEiT, Data2Vec and Swin have it",
    ),
    "I-JEPA": (
        {name: t for name, t in STATE.items() if name != "cls_token"},
        "without a class token, such as I-JEPA's",
    ),
    "peft": (
        {"blocks.0.attn.qkv.lora_A.default.weight": torch.zeros(1)},
        "peft's adapters; save it after merge_and_unload",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_another_network_say_what_they_are(kind: str, tmp_path: Path) -> None:
    tensors, words = KINDS[kind]
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"model\.name: .*{words}"):
        network_of_init(str(tmp_path / "w.pth"))
    with pytest.raises(UserError, match=rf"init: the weights .* do not fit this network; they are .*{words}") as caught:
        _load(tmp_path / "w.pth")
    assert "model.name=init" not in str(caught.value)


def test_network_of_init_that_does_not_fit_is_not_advised_again(tmp_path: Path) -> None:
    torch.save(STATE | {"extra.weight": torch.zeros(2)}, tmp_path / "w.pth")
    network = build_network(network_of_init(str(tmp_path / "w.pth")).config(), image_size=32, num_classes=0)
    with pytest.raises(
        UserError, match=r"model\.name=init gives this network, and they are of another or incomplete(.|\n)*extra"
    ):
        load_init(network, str(tmp_path / "w.pth"))


def test_sums_of_half_precision_are_not_rounded(tmp_path: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in STATE.items()}
    torch.save(half, tmp_path / "w.pth")
    network: Any = build_network(
        ModelConfig(name="vit_base_patch16_224", patch_size=8, kwargs=KWARGS), image_size=32, num_classes=0, in_chans=1
    )
    load_init(network, str(tmp_path / "w.pth"))
    expected = half["patch_embed.proj.weight"].float().sum(1, keepdim=True)
    assert torch.equal(network.patch_embed.proj.weight, expected)
    registers = {
        "register_tokens": torch.zeros(1, 4, 64),
        "cls_token": torch.ones(1, 1, 64),
        "pos_embed": torch.full((1, 17, 64), 0.001),
    }
    torch.save({**half, **{name: tensor.bfloat16() for name, tensor in registers.items()}}, tmp_path / "r.pth")
    token = read_weights(str(tmp_path / "r.pth")).network.tensors["cls_token"]
    assert token.min() > 1


@pytest.mark.parametrize("size", [(32, 48), 40])
def test_positions_with_two_readings_follow_the_images_of_the_recipe(size: Any, tmp_path: Path) -> None:
    torch.save(
        _state("vit_small_patch14_dinov2", img_size=(32, 48)), tmp_path / "w.pth"
    )  # 25 positions: 4x6 and the class
    recipe = KnnEvaluationConfig(
        out="out", init=str(tmp_path / "w.pth"), model=ModelConfig(name="init"), data={"image_size": size}
    )
    assert ("no_embed_class=true" in follow_init(recipe).model.kwargs) == (size == 40)


def _classifier(folder: Path, names: list[str]) -> Path:
    """Write a classifier as transformers has it."""
    transformers = pytest.importorskip("transformers", reason="reads transformers' own files")
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 32, "patch_size": 8}
    labels = dict(enumerate(names))
    config = transformers.ViTConfig(
        **sizes, intermediate_size=256, id2label=labels, label2id={v: k for k, v in labels.items()}
    )
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


def test_classifier_of_transformers_with_other_classes_is_not_loaded(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(11)]
    init = _classifier(tmp_path, names)
    assert _load(init, 11, class_names=names).head == "loaded"
    assert _load(init, 11, class_names=sorted(names)).head == "fresh"
    _classifier(tmp_path, [f"LABEL_{number}" for number in range(11)])
    assert _load(init, 11, class_names=names).head == "loaded"


def test_classifier_beside_a_vit_of_transformers_in_lightning_is_loaded(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="reads transformers' own files")
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 32, "patch_size": 8}
    network = transformers.ViTForImageClassification(
        transformers.ViTConfig(**sizes, intermediate_size=256, num_labels=5)
    )
    torch.save({"state_dict": {f"model.{name}": t for name, t in network.state_dict().items()}}, tmp_path / "l.ckpt")
    assert _load(tmp_path / "l.ckpt", 5).head == "loaded"


def test_swiglu_of_dinov2_in_transformers_5_names_is_joined(tmp_path: Path) -> None:
    state = _state("vit_giant_patch14_dinov2", mlp_ratio=5.375)
    gate, value = state["blocks.0.mlp.fc1.weight"].chunk(2)
    names = {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": value, "mlp.down_proj.weight": torch.zeros(2)}
    _, found, _ = from_transformers({f"encoder.layer.0.{name}": tensor for name, tensor in names.items()}, "dinov2")
    assert torch.equal(found["blocks.0.mlp.fc1.weight"], state["blocks.0.mlp.fc1.weight"])
    assert set(found) == {"blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc2.weight"}


@pytest.mark.parametrize("name", ["", " ", "a b", "a/b/c", "a/b ", "a b//c"])
def test_name_that_no_repository_of_the_hub_has_is_one_error(name: str) -> None:
    with pytest.raises(
        UserError, match=f"init: 'hf-hub:{name}' names no repository of the Hugging Face hub; use hf-hub:<owner>"
    ):
        read_weights(f"hf-hub:{name}")


@pytest.mark.parametrize(
    "name", ["https://huggingface.co/a/b", "https://huggingface.co/a/b/", "huggingface.co/a/b", "a/b", "a/b@"]
)
def test_address_of_a_repository_is_its_name(name: str) -> None:
    assert split_repository(name) == ("a/b", None)
    assert split_repository("https://huggingface.co/a/b/tree/c") == split_repository("a/b@c") == ("a/b", "c")


def test_unknown_tag_of_timm_lists_those_of_the_model() -> None:
    init = "timm:vit_small_patch14_dinov2.nope"
    for read in (read_weights, network_of_init):
        with pytest.raises(
            UserError,
            match=rf"init: '{init}': timm has no weights 'nope' of vit_small_patch14_dinov2; use one of lvd142m",
        ):
            read(init)
    with pytest.raises(
        UserError, match=r"'timm:vit_smal_patch14_dinov2' is no model of timm\. Did you mean vit_small_patch14_dinov2"
    ):
        hub.timm_arguments("vit_smal_patch14_dinov2", "timm:vit_smal_patch14_dinov2")
    recipe = KnnEvaluationConfig(out="out", init=init, model=ModelConfig(name="vit_small"), data={"image_size": 32})
    assert follow_init(recipe) is recipe  # reported when the weights are loaded
