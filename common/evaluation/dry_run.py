"""Text of `--dry-run` for the evaluations: the network's size, images, steps and MACs."""

from collections.abc import Mapping

from torch import nn

from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.evaluation.config import KnnEvaluationConfig, LinearConfig, ProbeConfig, TokensConfig
from common.evaluation.cost import knn_cost, linear_cost, network_complexity, probe_cost, tokens_cost
from common.evaluation.frozen import build_frozen, feature_dim
from common.evaluation.knn_run import choose_bank, held_out
from common.evaluation.linear_run import build_features, linear_warnings
from common.evaluation.probe import is_fitted
from common.evaluation.probe_run import build_features as build_probe_features
from common.evaluation.probe_run import choice_images
from common.evaluation.token_similarity import layer_names
from common.evaluation.token_similarity_run import build_similarities, choose_images
from common.models.complexity import Complexity
from common.training.cost import Cost
from common.training.optimizers import peak_lr
from common.training.plan_text import plan_text


def describe_linear(config: LinearConfig) -> str:
    """Describe what the linear evaluation would do and cost. Opens the data, so that invalid data is reported."""
    splits = open_splits(config.data, labeled=True)
    features = build_features(config)
    size, dim = network_complexity(config), feature_dim(features, config.data.image_size, config.data.channels)
    batch, num_classes = config.train.batch_size, len(splits.class_names)
    cost = linear_cost(config, num_images=len(splits.train))
    evaluated = {name: split for name in ("validation", "test") if (split := getattr(splits, name)) is not None}
    return plan_text(
        network=_network(config.model.name, size, config.data.image_size, config.init),
        classifier=f"{dim} features to {num_classes} classes: {(dim + 1) * num_classes / 1e6:.3f} M parameters",
        images=_images({"for training": splits.train, **evaluated}),
        steps=f"{cost.steps} of {batch} images, {cost.images} images in {config.train.epochs} epochs",
        learning_rate=f"{peak_lr(config.optim, batch):.3g} (peak)",
        compute=_compute(cost),
        warnings=linear_warnings(config),
    )


def describe_knn(config: KnnEvaluationConfig) -> str:
    """Describe what the k-NN evaluation would do and cost. Opens the data, so that invalid data is reported."""
    splits = open_splits(config.data, labeled=True)
    build_frozen(
        config.model,
        config.init,
        image_size=config.data.image_size,
        seed=config.train.seed,
        in_chans=config.data.channels,
    )
    evaluated = dict(held_out(splits))
    cost = knn_cost(config, num_images=len(splits.train), num_held_out=sum(map(len, evaluated.values())))
    return plan_text(
        network=_network(config.model.name, network_complexity(config), config.data.image_size, config.init),
        images=_images({"neighbors": choose_bank(config, splits), **evaluated}),
        neighbors=f"k = {', '.join(map(str, config.knn.ks))}; the first is reported",
        compute=_compute(cost),
    )


def describe_probe(config: ProbeConfig) -> str:
    """Describe what k-NN and logistic regression would do and cost. Opens the data, so that invalid data is reported."""
    splits = open_splits(config.data, labeled=True)
    dim, num_classes = (
        feature_dim(build_probe_features(config), config.data.image_size, config.data.channels),
        len(splits.class_names),
    )
    fitted = is_fitted(len(splits.train), dim, num_classes, config)
    evaluated = dict(held_out(splits))
    cost = probe_cost(config, num_images=len(splits.train), num_held_out=sum(map(len, evaluated.values())))
    if config.features == "pixels":
        network = "none: the pixels are classified"
    else:
        network = _network(config.model.name, network_complexity(config), config.data.image_size, config.init)
    return plan_text(
        network=network,
        images=_images({"for training": splits.train, **evaluated}),
        neighbors=f"k = {', '.join(map(str, config.knn.ks))}; the first is reported",
        regression=f"{dim} features to {num_classes} classes, {len(config.l2)} strengths compared on "
        f"{len(choice_images(splits, config.data))} validation images"
        if fitted
        else f"none: {dim} features of so many images are too many (max_products = {config.max_products:.12g})",
        compute=_compute(cost),
    )


def describe_tokens(config: TokensConfig) -> str:
    """Describe what the token similarity evaluation would do and cost. Opens the data, so that invalid data is reported."""
    split = choose_images(config, open_splits(config.data, labeled=False))
    network: nn.Module = build_similarities(config).network
    return plan_text(
        network=_network(config.model.name, network_complexity(config), config.data.image_size, config.init),
        images=_images({config.split: split}),
        layers=f"{len(layer_names(network))}: the stem, the position embedding, the blocks",
        compute=_compute(tokens_cost(config, num_held_out=len(split))),
    )


def _network(name: str, complexity: Complexity, image_size: int | tuple[int, int], init: str | None) -> str:
    """Describe a frozen network."""
    return (
        f"{name}, frozen: {complexity.parameters / 1e6:.2f} M parameters, {complexity.macs / 1e9:.3f} GMACs at "
        f"{image_size} px; weights of {init or 'an untrained network'}"
    )


def _images(splits: Mapping[str, Split]) -> str:
    """Describe the number of images of each split."""
    return ", ".join(f"{len(split)} {name}" for name, split in splits.items())


def _compute(cost: Cost) -> str:
    """Describe the compute of forward passes, all that a frozen network costs."""
    return f"{cost.macs_per_image / 1e9:.3f} GMACs per image (forward only), {cost.macs / 1e12:,.3f} TMACs in total"
