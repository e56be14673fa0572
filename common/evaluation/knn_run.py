"""k-NN evaluation of a frozen backbone: the training images' features classify the validation and test images."""

from collections.abc import Iterator, Mapping

import torch

from common.data.config import DataConfig
from common.data.loading.corrupt import CorruptImageCounter, build_corrupt_counter
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.errors import UserError
from common.evaluation.config import KnnEvaluationConfig
from common.evaluation.features import feature_rank
from common.evaluation.frozen import PooledFeatures, build_frozen
from common.evaluation.image_predictions import knn_predictions, save_predictions
from common.evaluation.inference import StopRequested, predict_roles, sample_images
from common.evaluation.knn import classify_by_neighbors, neighbor_metrics
from common.evaluation.predictions import Predictions
from common.training.normalization import with_normalization
from common.training.open_images import open_images
from common.training.run import Run, start_run
from common.training.status import RunOutcome, RunStatus

PREFIXES = {"validation": "", "test": "test_"}
"""Prefix of the metrics' names by split; on the validation images they have the same names as in pre-training."""


def evaluate(config: KnnEvaluationConfig, overrides: list[str]) -> int:
    """Evaluate, write the result and return the exit code. A run that was stopped starts over."""
    run = start_run(config, stage="knn", precision=config.train.precision, overrides=overrides)
    config = run.config
    if run.has_ended():
        return 0
    splits = restart_with_labels(config.data, run, frozen=config.init)
    config = with_normalization(config, run)
    network = build_frozen(
        config.model,
        config.init,
        image_size=config.data.image_size,
        seed=config.train.seed,
        in_chans=config.data.channels,
    )
    features = PooledFeatures(network).eval().to(run.device)
    by_role = {"bank": choose_bank(config, splits), **dict(held_out(splits))}
    images = sum(len(split) for split in by_role.values())
    errors = build_corrupt_counter(config.data, splits, run.process_group)
    try:
        metrics, predictions = _evaluate(config, run, features, by_role, errors, class_names=splits.class_names)
        outcome = _outcome(metrics, config)
    except StopRequested:
        metrics, predictions, images, outcome = {}, None, 0, run.interrupted()
    if metrics:
        run.log(0, 0, metrics)
    if predictions is not None:
        save_predictions(run, predictions)
    return run.finish(
        outcome,
        step=0,
        images=images,
        train_images=len(splits.train),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        metrics=metrics,
        **errors.summary(),
        splits={name: len(split) for name, split in by_role.items()},
    )


def restart_with_labels(data: DataConfig, run: Run, *, frozen: str | None) -> Splits:
    """Return the labeled splits of a run that starts over, recorded in its folder with the subset that it trains on."""
    run.lock()
    splits = open_images(data, run, labeled=True, frozen=frozen)
    run.restart()
    return splits


def choose_bank(config: KnnEvaluationConfig, splits: Splits) -> Split:
    """Return the training images of the feature bank: all, or the same sample as pre-training's at the same seed."""
    return sample_images(splits.train, config.knn.bank_images, seed=config.train.seed, stream="knn bank")


def held_out(splits: Splits) -> Iterator[tuple[str, Split]]:
    """Yield the labeled validation and test images, by name; raise UserError if there are none of either."""
    labeled = [
        (name, split) for name in PREFIXES if (split := getattr(splits, name)) is not None and split.labels is not None
    ]
    if not labeled:
        raise UserError(
            "data.validation_fraction: there are neither labeled validation images nor labeled test images to evaluate on. Set "
            "data.validation_fraction above 0, or data.validation_split to a split that has labels."
        )
    yield from labeled


def _evaluate(
    config: KnnEvaluationConfig,
    run: Run,
    features: torch.nn.Module,
    by_role: Mapping[str, Split],
    errors: CorruptImageCounter,
    *,
    class_names: tuple[str, ...],
) -> tuple[dict[str, float], Predictions | None]:
    """Return accuracies and feature rank of each held-out split, and the predictions for the test images, if there are any.

    No metrics and no predictions if any feature is not finite.
    """
    outputs = predict_roles(
        by_role,
        features,
        run,
        config.data,
        crop_pct=config.knn.crop_pct,
        batch_size=config.train.batch_size,
        training="bank",
        seed=config.train.seed,
        errors=errors,
    )
    bank, bank_labels = outputs.pop("bank")
    metrics: dict[str, float] = {}
    predictions = None
    for name, (queries, labels) in outputs.items():
        if not bool(torch.isfinite(queries).all() & torch.isfinite(bank).all()):
            return {}, None
        found = classify_by_neighbors(
            queries,
            labels,
            bank,
            bank_labels,
            num_classes=len(class_names),
            ks=config.knn.ks,
            temperature=config.knn.temperature,
        )
        named = {"feature_rank": feature_rank(queries), **neighbor_metrics(found, labels)}
        metrics |= {f"{PREFIXES[name]}{key}": value for key, value in named.items()}
        if name == "test":
            predictions = knn_predictions(
                found.votes, labels, by_role[name], class_names=class_names, k=config.knn.ks[0]
            )
    return metrics, predictions


def _outcome(metrics: Mapping[str, float], config: KnnEvaluationConfig) -> RunOutcome:
    """Return the outcome: the reported accuracies, or a divergence if there are no metrics."""
    if not metrics:
        return RunOutcome(RunStatus.DIVERGED, f"features are not finite in {config.train.precision}")
    words = [
        f"{name} {metrics[f'{prefix}knn_top1']:.2f}"
        for name, prefix in PREFIXES.items()
        if f"{prefix}knn_top1" in metrics
    ]
    return RunOutcome(RunStatus.FINISHED, f"top-1 of {config.knn.ks[0]} neighbors: {', '.join(words)}")
