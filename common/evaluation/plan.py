"""Owns what `--dry-run` tells of an evaluation: the network's size, the images, steps and multiply-adds."""

from collections.abc import Mapping

from torch import nn

from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.evaluation.config import KnnEvaluationConfig, LinearConfig, TokensConfig
from common.evaluation.cost import knn_cost, linear_cost, network_complexity, tokens_cost
from common.evaluation.frozen import build_frozen, feature_dim
from common.evaluation.knn_run import choose_bank, held_out
from common.evaluation.linear_run import build_features
from common.evaluation.token_similarity import layer_names
from common.evaluation.token_similarity_run import build_similarities, choose_images
from common.models.complexity import Complexity
from common.training.cost import Cost
from common.training.optimizers import peak_lr, ramp_warnings


def describe_linear(config: LinearConfig) -> str:
    """Return what the linear evaluation would do and cost. The data is opened, so that its mistakes show."""
    splits = open_splits(config.data, labelled=True)
    features = build_features(config)
    size, dim = network_complexity(config), feature_dim(features, config.data.image_size)
    batch, num_classes = config.train.batch_size, len(splits.class_names)
    cost = linear_cost(config, num_images=len(splits.train))
    judged = {name: part for name in ("validation", "test") if (part := getattr(splits, name)) is not None}
    return _lines(
        network=_network(config.model.name, size, config.data.image_size, config.init),
        classifier=f"{dim} features to {num_classes} classes: {(dim + 1) * num_classes / 1e6:.3f} M parameters",
        images=_images({"to train on": splits.train, **judged}),
        steps=f"{cost.steps} of {batch} images, {cost.images} images in {config.train.epochs} epochs",
        learning_rate=f"{peak_lr(config.optim, batch):.3g} at its peak",
        arithmetic=_arithmetic(cost),
        **dict(zip(["warning"], ramp_warnings(config.optim, config.train.epochs))),  # one at most
    )


def describe_knn(config: KnnEvaluationConfig) -> str:
    """Return what the k-NN evaluation would do and cost. The data is opened, so that its mistakes show."""
    splits = open_splits(config.data, labelled=True)
    build_frozen(config.model, config.init, image_size=config.data.image_size, seed=config.train.seed)
    judged = dict(held_out(splits))
    cost = knn_cost(config, num_images=len(splits.train), num_held_out=sum(map(len, judged.values())))
    return _lines(
        network=_network(config.model.name, network_complexity(config), config.data.image_size, config.init),
        images=_images({"neighbours": choose_bank(config, splits), **judged}),
        neighbours=f"k = {', '.join(map(str, config.knn.ks))}; the first is reported",
        arithmetic=_arithmetic(cost),
    )


def describe_tokens(config: TokensConfig) -> str:
    """Return what the look at tokens would do and cost. The data is opened, so that its mistakes show."""
    split = choose_images(config, open_splits(config.data, labelled=False))
    network: nn.Module = build_similarities(config).network
    return _lines(
        network=_network(config.model.name, network_complexity(config), config.data.image_size, config.init),
        images=_images({config.split: split}),
        layers=f"{len(layer_names(network))}: the stem, the position embedding, the blocks",
        arithmetic=_arithmetic(tokens_cost(config, num_held_out=len(split))),
    )


def _network(name: str, size: Complexity, image_size: int | tuple[int, int], init: str | None) -> str:
    """Return the words for a frozen network."""
    return (
        f"{name}, frozen: {size.parameters / 1e6:.2f} M parameters, {size.multiply_adds / 1e9:.3f} G multiply-adds at "
        f"{image_size} px; weights of {init or 'an untrained network'}"
    )


def _images(splits: Mapping[str, Split]) -> str:
    """Return the number of images of each split."""
    return ", ".join(f"{len(split)} {name}" for name, split in splits.items())


def _arithmetic(cost: Cost) -> str:
    """Return the words for forward passes alone, which is all that a frozen network costs."""
    return (
        f"{cost.multiply_adds_per_image / 1e9:.3f} G multiply-adds for each image (forward alone), "
        f"{cost.multiply_adds / 1e12:,.3f} T in all"
    )


def _lines(**facts: str) -> str:
    """Return facts under each other, their names in a column."""
    return "\n".join(["", *(f"{name.replace('_', ' '):13} {text}" for name, text in facts.items())])
