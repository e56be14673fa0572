"""Owns the k-NN evaluation: a frozen network's features of the training images vote on the validation and test images."""

from collections.abc import Iterator, Mapping

import torch

from common.data.loading.corrupt import ErrorCount, build_error_count
from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.errors import UserError
from common.evaluation.config import KnnEvaluationConfig
from common.evaluation.features import feature_rank
from common.evaluation.frozen import PooledFeatures, build_frozen
from common.evaluation.inference import Stopped, draw_images, look_at, num_batches
from common.evaluation.knn import knn_accuracy
from common.training.progress import Progress
from common.training.run import Run
from common.training.status import Ending, Verdict

PREFIXES = {"validation": "", "test": "test_"}
"""What stands before a metric's name: on the validation images it is called as pre-training calls it."""


def evaluate(config: KnnEvaluationConfig, overrides: list[str]) -> int:
    """Look at the images once and write the result; return the exit code. A run that was stopped begins again."""
    run = Run(config, config.train.as_train(), stage="knn", out=config.out, overrides=overrides)
    if run.has_ended():
        return 0
    run.restore()  # there is no checkpoint, but perhaps the log of a try that did not come to its end
    splits = open_splits(config.data, labelled=True)
    subset_file = run.folder / "subset.json"
    run.write(subset_file, lambda: splits.subset.save(subset_file))
    network = build_frozen(config.model, config.init, image_size=config.data.image_size, seed=config.train.seed)
    features = PooledFeatures(network).eval().to(run.device)
    looked_at = {"bank": choose_bank(config, splits), **dict(held_out(splits))}
    images = sum(len(split) for split in looked_at.values())
    errors = build_error_count(config.data, splits, run.accelerator)
    try:
        metrics = _judge(config, run, features, looked_at, errors, num_classes=len(splits.class_names))
        ending = _verdict(metrics, config)
    except Stopped:
        metrics, images, ending = {}, 0, run.interrupted()
    if metrics:
        run.log(0, 0, metrics)
    return run.finish(
        ending,
        step=0,
        images=images,
        train_images=len(splits.train),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        metrics=metrics,
        **errors.facts(),
        splits={name: len(split) for name, split in looked_at.items()},
    )


def choose_bank(config: KnnEvaluationConfig, splits: Splits) -> Split:
    """Return the training images that serve as neighbours: all, or the draw that pre-training makes at the same seed."""
    return draw_images(splits.train, config.knn.bank_images, seed=config.train.seed, stream="knn bank")


def held_out(splits: Splits) -> Iterator[tuple[str, Split]]:
    """Yield the labelled validation and test images, by name; raise UserError where there are none of either."""
    found = [
        (name, split) for name in PREFIXES if (split := getattr(splits, name)) is not None and split.labels is not None
    ]
    if not found:
        raise UserError(
            "data.validation_fraction: there are no labelled validation and no labelled test images to judge by. Set "
            "data.validation_fraction above 0, or data.validation_split to a split that has labels."
        )
    yield from found


def _judge(
    config: KnnEvaluationConfig,
    run: Run,
    features: torch.nn.Module,
    looked_at: Mapping[str, Split],
    errors: ErrorCount,
    *,
    num_classes: int,
) -> dict[str, float]:
    """Return the accuracies and the feature rank on each held-out split; nothing where features are not finite."""
    batch_size = config.train.batch_size
    progress = Progress(run, sum(num_batches(split, run, batch_size) for split in looked_at.values()), batch_size)
    # What is broken among the held-out images was left out when they were opened: nothing can stand in for those.
    skips = {"bank"} if config.data.on_error == "skip" else set[str]()
    found = {
        name: look_at(
            split,
            features,
            run,
            config.data,
            crop=config.knn.crop,
            batch_size=batch_size,
            progress=progress,
            replacement_seed=config.train.seed if name in skips else None,
            errors=errors if name in skips else None,
        )
        for name, split in looked_at.items()
    }
    bank, bank_labels = found.pop("bank")
    metrics: dict[str, float] = {}
    for name, (queries, labels) in found.items():
        if not bool(torch.isfinite(queries).all() & torch.isfinite(bank).all()):
            return {}
        accuracies = knn_accuracy(
            queries,
            labels,
            bank,
            bank_labels,
            num_classes=num_classes,
            ks=config.knn.ks,
            temperature=config.knn.temperature,
        )
        named = {"feature_rank": feature_rank(queries), **accuracies}
        metrics |= {f"{PREFIXES[name]}{key}": value for key, value in named.items()}
    return metrics


def _verdict(metrics: Mapping[str, float], config: KnnEvaluationConfig) -> Ending:
    """Return how the evaluation ended."""
    if not metrics:
        return Ending(Verdict.CRASH, f"features are not finite in {config.train.precision}")
    words = [
        f"{name} {metrics[f'{prefix}knn_top1']:.2f}"
        for name, prefix in PREFIXES.items()
        if f"{prefix}knn_top1" in metrics
    ]
    return Ending(Verdict.FINISHED, f"top-1 of {config.knn.ks[0]} neighbours: {', '.join(words)}")
