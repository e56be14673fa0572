"""VOLO equals timm's, with any stem; with a box it mixes tokens and returns each image's own token logits."""

import pytest
import timm
import torch
from torch import Tensor

from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from common.models.stem_registry import STEM_NAMES
from common.models.volo import Volo, exchange_box

NO_BOX = torch.empty(0, dtype=torch.int64)


def _mini(**options: object) -> Volo:
    torch.manual_seed(0)
    config = ModelConfig(**{"name": "volo_mini", "drop_path": 0.0, **options})  # type: ignore[arg-type]
    model = build_network(config, image_size=16, num_classes=5)
    assert isinstance(model, Volo)
    return model


def _exchange(values: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Exchange one position at a time."""
    result, (top, left, bottom, right) = values.clone(), box
    for image in range(len(values)):
        for row in range(top, bottom):
            for column in range(left, right):
                result[image, row, column] = values[image ^ 1, row, column]
    return result


def test_with_the_default_stem_it_equals_timms_volo_d1() -> None:
    torch.manual_seed(0)
    own = build_network(ModelConfig(name="volo_d1"), image_size=32, num_classes=7).eval()
    reference = timm.create_model("volo_d1_224", img_size=32, num_classes=7).eval()
    reference.load_state_dict(own.state_dict())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(own(images), reference(images), rtol=0, atol=0)


def test_at_224_px_it_has_the_shapes_of_timms_volo() -> None:
    with torch.device("meta"):
        own, reference = timm.create_model("volo_d1"), timm.create_model("volo_d1_224")
    shapes = {name: tensor.shape for name, tensor in reference.state_dict().items()}
    assert {name: tensor.shape for name, tensor in own.state_dict().items()} == shapes
    assert [stage["reduction"] for stage in own.feature_info] == [
        stage["reduction"] for stage in reference.feature_info
    ]


@pytest.mark.parametrize("stem", [name for name in STEM_NAMES if not name.startswith("vit_c")])
def test_every_stem_fits_volo_d1_at_patch_size_8(stem: str) -> None:
    with torch.device("meta"):
        model = build_network(ModelConfig(name="volo_d1", stem=stem), image_size=224, num_classes=10)
        assert model.patch_embed(torch.empty(1, 3, 224, 224)).shape == (1, 192, 28, 28)
        assert model(torch.empty(1, 3, 224, 224)).shape == (1, 10) and model.token_grid == (14, 14)


@pytest.mark.parametrize("size", [12, 16, 32, (16, 8)])
def test_every_parameter_gets_a_gradient_on_small_images(size: int | tuple[int, int]) -> None:
    model = build_network(ModelConfig(name="volo_mini"), image_size=size, num_classes=3)
    height, width = (size, size) if isinstance(size, int) else size
    model(torch.randn(2, 3, height, width)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) < 500_000


@pytest.mark.parametrize("mode", [True, False])
def test_logits_add_half_of_the_largest_token_logit(mode: bool) -> None:
    model, images = _mini(stem="patchify").train(mode), torch.randn(4, 3, 16, 16)
    class_logits, token_logits = model(images, NO_BOX)
    assert token_logits.shape == (4, 16, 5)
    torch.testing.assert_close(model(images), class_logits + 0.5 * token_logits.max(1).values)


def test_token_logits_are_in_row_major_order() -> None:
    model, images = _mini().eval(), torch.randn(2, 3, 16, 16)
    tokens = model.forward_features(images)
    class_logits, token_logits = model(images, NO_BOX)
    torch.testing.assert_close(class_logits, model.head(tokens[:, 0]))
    torch.testing.assert_close(token_logits, model.aux_head(tokens[:, 1:]))


def test_exchange_is_between_paired_images_and_within_the_box() -> None:
    values, box = torch.randn(6, 4, 5, 2), (1, 0, 3, 4)
    torch.testing.assert_close(exchange_box(values, torch.tensor(box)), _exchange(values, box), rtol=0, atol=0)
    twice = exchange_box(exchange_box(values, torch.tensor(box)), torch.tensor(box))
    assert torch.equal(twice, values) and torch.equal(exchange_box(values, NO_BOX), values)


def test_mix_token_exchanges_after_the_stem_and_back_at_the_end() -> None:
    model, images, box = _mini().eval(), torch.randn(4, 3, 16, 16), (1, 0, 3, 2)
    patches = model.patch_embed(images).permute(0, 2, 3, 1)
    tokens = model.forward_tokens(_exchange(patches, (2, 0, 6, 4)))
    tokens = model.norm(model.forward_cls(tokens))
    dense = _exchange(model.aux_head(tokens[:, 1:]).unflatten(1, (4, 4)), box).flatten(1, 2)
    class_logits, token_logits = model(images, torch.tensor(box))
    torch.testing.assert_close(class_logits, model.head(tokens[:, 0]))
    torch.testing.assert_close(token_logits, dense)


def test_mix_token_of_the_full_grid_exchanges_only_the_class_tokens() -> None:
    model, images = _mini().eval(), torch.randn(4, 3, 16, 16)
    plain_class, plain_dense = model(images, NO_BOX)
    mixed_class, mixed_dense = model(images, torch.tensor((0, 0, 4, 4)))
    torch.testing.assert_close(mixed_class, plain_class[[1, 0, 3, 2]])
    torch.testing.assert_close(mixed_dense, plain_dense)


def test_mix_token_of_two_images_equals_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two images, timm's partner (the reversed batch) is the same. timm calls the class token's features x_cls."""
    model = _mini(stem="patchify").train()
    monkeypatch.setattr("timm.models.volo.rand_bbox", lambda *_, **__: (1, 0, 3, 2))
    model.mix_token, model.beta = True, 1.0
    images = torch.randn(2, 3, 16, 16)
    features, dense, box = model.forward_train(images)
    class_logits, token_logits = model(images, torch.tensor(box))
    torch.testing.assert_close(class_logits, model.head(features))
    torch.testing.assert_close(token_logits, dense)


def test_odd_batch_can_be_trained_but_not_mixed() -> None:
    model, images = _mini(), torch.randn(3, 3, 16, 16)
    assert model(images, NO_BOX)[0].shape == (3, 5)
    with pytest.raises(UserError, match=r"train\.batch_size: each process gets 3 images, but MixToken pairs them"):
        model(images, torch.tensor((0, 0, 1, 1)))


def test_without_classes_the_normalized_class_token_is_returned() -> None:
    model = build_network(ModelConfig(name="volo_mini"), image_size=16, num_classes=0).eval()
    images = torch.randn(2, 3, 16, 16)
    assert model(images).shape == (2, model.num_features) == (2, 64)
    torch.testing.assert_close(model(images), model.forward_features(images)[:, 0])


def test_sizes_that_do_not_fit_are_rejected_with_the_nearest_valid_ones() -> None:
    with pytest.raises(UserError, match=r"data\.image_size: 18 is not a multiple of 4.*set 16 or 20"):
        build_network(ModelConfig(name="volo_mini"), image_size=18, num_classes=2)
    with pytest.raises(UserError, match=r"data\.image_size: 24 is not a multiple of 16.*set 16 or 32"):
        build_network(ModelConfig(name="volo_d1"), image_size=24, num_classes=2)
    with pytest.raises(UserError, match=r"the images are 12x12, but the network is built for \(16, 16\)"):
        _mini()(torch.randn(2, 3, 12, 12))


def test_stem_has_pytorchs_initialization_and_the_rest_deits() -> None:
    torch.manual_seed(0)
    model = build_network(ModelConfig(name="volo_d1"), image_size=32, num_classes=10)
    for tensor in (model.pos_embed, model.network[2][0].attn.qkv.weight, model.network[0][0].mlp.fc1.weight):
        assert tensor.std().item() == pytest.approx(0.02, rel=0.1)
    assert 0.99 < model.patch_embed.conv[3].weight.abs().max().item() * (64 * 9) ** 0.5 <= 1
    assert _mini().network[2][0].mlp.fc1.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.1)


def test_all_boxes_share_one_compiled_graph() -> None:
    model, images, graphs = _mini().train(), torch.randn(4, 3, 16, 16), 0

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        nonlocal graphs
        graphs += 1
        return graph

    compiled = torch.compile(model, dynamic=False, fullgraph=True, backend=count)
    for box in ((1, 0, 3, 2), (0, 0, 4, 4), (2, 1, 4, 3), (0, 0, 0, 0)):
        class_logits, token_logits = compiled(images, torch.tensor(box))
        expected = model(images, torch.tensor(box))
        torch.testing.assert_close((class_logits, token_logits), expected)
    assert graphs == 1
