"""Baselines of a dataset: k-NN and logistic regression on the features of a frozen network, trained or not, or on raw pixels."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from common.data.config import DataConfig
from common.data.loading.corrupt import build_corrupt_counter
from common.data.splits.roles import Splits
from common.data.splits.stratified import Indices, class_prefixes
from common.data.splits.subset import draw_validation_subset
from common.evaluation.classification import CLASS_AVERAGES, classification_metrics
from common.evaluation.config import ProbeConfig
from common.evaluation.frozen import PooledFeatures, build_frozen, feature_dim
from common.evaluation.image_predictions import classifier_predictions, knn_predictions, save_predictions
from common.evaluation.inference import StopRequested, predict_roles
from common.evaluation.knn import classify_by_neighbors, neighbor_metrics
from common.evaluation.knn_run import PREFIXES, held_out, restart_with_labels
from common.evaluation.predictions import Predictions
from common.evaluation.probe import choose_probe, is_fitted
from common.interruption import WaitInterrupted
from common.training.normalization import with_normalization
from common.training.run import Run, start_run
from common.training.status import RunOutcome, RunStatus

PROBE_METRICS = ("top1", "top5", *CLASS_AVERAGES)
"""Metrics of the logistic regression; those of k-NN have the names that a k-NN evaluation gives them."""

Outputs = Mapping[str, tuple[Tensor, Tensor]]
"""(features, labels) of every image of a split, by the split's name."""


def evaluate(config: ProbeConfig, overrides: list[str]) -> int:
    """Evaluate, write the result and return the exit code. A run that was stopped starts over."""
    run = start_run(config, stage="probe", precision=config.train.precision, overrides=overrides)
    config = run.config
    if run.has_ended():
        return 0
    splits = restart_with_labels(config.data, run, frozen=config.init)
    config = with_normalization(config, run)
    features = build_features(config)
    dim = feature_dim(features, config.data.image_size, config.data.channels)
    fitted = is_fitted(len(splits.train), dim, len(splits.class_names), config)
    choice = choice_images(splits, config.data) if fitted else None
    by_role = {"train": splits.train, **dict(held_out(splits))}
    images = sum(len(split) for split in by_role.values())
    errors = build_corrupt_counter(config.data, splits, run.process_group)
    try:
        outputs = predict_roles(
            by_role,
            features.to(run.device),
            run,
            config.data,
            crop_pct=config.crop_pct,
            batch_size=config.train.batch_size,
            training="train",
            seed=config.train.seed,
            errors=errors,
        )
        metrics, predictions = _evaluate(config, run, outputs, choice, splits)
        outcome = _outcome(metrics, config)
    except (StopRequested, WaitInterrupted) as error:
        if isinstance(error, WaitInterrupted) and run.num_processes > 1:  # the others may have no signal
            raise
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
        parameters=sum(parameter.numel() for parameter in features.parameters()),
        metrics=metrics,
        **errors.summary(),
        splits={name: len(split) for name, split in by_role.items()},
        choice_images=0 if choice is None else len(choice),
    )


def build_features(config: ProbeConfig) -> nn.Module:
    """Return the module from normalized images (B, C, H, W) to what is classified: pooled features, or pixels (B, C * H * W)."""
    if config.features == "pixels":
        return nn.Flatten()
    network = build_frozen(
        config.model,
        config.init,
        image_size=config.data.image_size,
        seed=config.train.seed,
        in_chans=config.data.channels,
    )
    return PooledFeatures(network).eval()


def choice_images(splits: Splits, data: DataConfig) -> Indices:
    """Return the sorted indices of the validation images that choose the regularization strength; none without labels.

    Choosing must not take more labels than training: it is the share `data.fraction` of each class, at least one image. Where the
    training images are not a fraction, it is at most as many images of a class as there are for training, at least one.
    """
    if splits.validation is None or splits.validation.labels is None:
        return np.zeros(0, dtype=np.int64)
    labels = splits.validation.labels
    if data.images_per_class is None and data.subset_file is None:
        return draw_validation_subset(labels, fraction=data.fraction, seed=data.subset_seed)
    assert splits.train.labels is not None
    counts = np.bincount(splits.train.labels, minlength=len(splits.class_names))
    return class_prefixes(labels, np.maximum(counts, 1), seed=data.subset_seed, stream="subset")


def _evaluate(
    config: ProbeConfig, run: Run, outputs: Outputs, choice: Indices | None, splits: Splits
) -> tuple[dict[str, float], Predictions | None]:
    """Return the accuracies on each held-out split and the chosen strength, and the regression's predictions for the test images.

    No metrics and no predictions if any feature is not finite. Without `choice`, the images that choose the strength, there is no
    regression, and the metrics and predictions are those of k-NN.
    """
    if not all(bool(torch.isfinite(features).all()) for features, _ in outputs.values()):
        return {}, None

    def stop_if_requested() -> None:
        if run.is_stop_requested():
            raise StopRequested

    train, train_labels = outputs["train"]
    probe = None
    if choice is not None:
        probe = choose_probe(
            train,
            train_labels,
            l2=config.l2,
            num_classes=len(splits.class_names),
            validation=_select(outputs["validation"], choice) if len(choice) else None,
            before_each=stop_if_requested,
        )
    metrics: dict[str, float] = {} if probe is None else {"probe_l2": probe.l2}
    predictions = None
    for name, split in held_out(splits):
        features, labels = outputs[name]
        neighbors = classify_by_neighbors(
            features,
            labels,
            train,
            train_labels,
            num_classes=len(splits.class_names),
            ks=config.knn.ks,
            temperature=config.knn.temperature,
        )
        metrics |= {f"{PREFIXES[name]}{key}": value for key, value in neighbor_metrics(neighbors, labels).items()}
        logits = None if probe is None else probe.logits(features)
        if logits is not None:
            accuracies = classification_metrics(logits, labels.cpu())
            metrics |= {f"{name}_probe_{key}": accuracies[key] for key in PROBE_METRICS if key in accuracies}
        if name != "test":
            continue
        if logits is None:
            predictions = knn_predictions(
                neighbors.votes, labels, split, class_names=splits.class_names, k=config.knn.ks[0]
            )
        else:
            predictions = classifier_predictions(
                logits,
                labels.cpu(),
                split,
                class_names=splits.class_names,
                prefix="probe_",
                reported=PROBE_METRICS,
            )
    return metrics, predictions


def _select(outputs: tuple[Tensor, Tensor], indices: Indices) -> tuple[Tensor, Tensor]:
    """Return the features and labels of some images."""
    features, labels = outputs
    chosen = torch.as_tensor(indices, device=features.device)
    return features[chosen], labels[chosen]


def _outcome(metrics: Mapping[str, float], config: ProbeConfig) -> RunOutcome:
    """Return the outcome: the reported accuracies, or a divergence if there are no metrics."""
    if not metrics:
        return RunOutcome(RunStatus.DIVERGED, f"features are not finite in {config.train.precision}")
    words = [
        f"{name} {metrics[f'{prefix}knn_top1']:.2f} ({config.knn.ks[0]} neighbors)"
        + (f", {metrics[key]:.2f} (logistic regression)" if (key := f"{name}_probe_top1") in metrics else "")
        for name, prefix in PREFIXES.items()
        if f"{prefix}knn_top1" in metrics
    ]
    strength = (
        f"l2 {metrics['probe_l2']:g}"
        if "probe_l2" in metrics
        else "no logistic regression, too many images, features and classes"
    )
    return RunOutcome(RunStatus.FINISHED, f"top-1: {'; '.join(words)}; {strength}")
