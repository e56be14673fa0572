"""Token similarity evaluation: cosine similarity of tokens layer by layer, as metrics, a table and a figure in the run folder."""

import csv
import io

import torch
from torch import Tensor

from common.data.loading.corrupt import build_corrupt_counter
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.errors import UserError
from common.evaluation.config import TokensConfig
from common.evaluation.frozen import build_frozen
from common.evaluation.inference import StopRequested, num_batches, predict, sample_images
from common.evaluation.token_similarity import LayerSimilarities, layer_names
from common.evaluation.token_similarity_figure import draw_similarity
from common.files import write_atomic
from common.training.normalization import with_normalization
from common.training.open_images import open_images
from common.training.progress import Progress
from common.training.run import Run, start_run
from common.training.status import RunOutcome, RunStatus


def evaluate(config: TokensConfig, overrides: list[str]) -> int:
    """Evaluate, write the result and return the exit code. A run that was stopped starts over."""
    run = start_run(config, stage="tokens", precision=config.train.precision, overrides=overrides)
    config = run.config
    if run.has_ended():
        return 0
    run.lock()
    splits = open_images(config.data, run, labeled=False, frozen=config.init)
    config = with_normalization(config, run)
    run.restart()
    split = choose_images(config, splits)
    similarities = build_similarities(config).to(run.device)
    names, metrics, images = layer_names(similarities.network), dict[str, float](), 0
    batch_size = config.train.batch_size
    progress = Progress(run, num_batches(split, run, batch_size), batch_size)
    try:
        by_image, _ = predict(
            split, similarities, run, config.data, crop_pct=config.crop_pct, batch_size=batch_size, progress=progress
        )
        images = len(split)
        outcome = RunOutcome(RunStatus.DIVERGED, f"tokens are not finite in {config.train.precision}")
        if bool(torch.isfinite(by_image).all()):
            metrics = {f"similarity_{layer:02d}": value for layer, value in enumerate(by_image.mean(0).tolist())}
            outcome = _write(run, names, by_image)
            run.log(0, 0, metrics)
    except StopRequested:
        outcome = run.interrupted()
    return run.finish(
        outcome,
        step=0,
        images=images,
        train_images=0,
        parameters=sum(parameter.numel() for parameter in similarities.parameters()),
        metrics=metrics,
        layers=names,
        **build_corrupt_counter(config.data, splits, run.process_group).summary(),
    )


def build_similarities(config: TokensConfig) -> LayerSimilarities:
    """Return the module that computes the similarities of each layer from normalized images, over the recipe's network."""
    network = build_frozen(
        config.model,
        config.init,
        image_size=config.data.image_size,
        seed=config.train.seed,
        in_chans=config.data.channels,
    )
    similarities = LayerSimilarities(network).eval()  # type: ignore[arg-type]
    if similarities.network.patch_embed.num_patches < 2:
        raise UserError(
            f"data.image_size = {config.data.image_size}: the image is a single patch, and similarity needs two tokens. "
            "Use a larger size or smaller patches."
        )
    return similarities


def choose_images(config: TokensConfig, splits: Splits) -> Split:
    """Return the images to evaluate on: all of the split, or a sample of it; raise UserError if the split does not exist."""
    split: Split | None = getattr(splits, config.split)
    if split is None:
        raise UserError(
            f"split = {config.split}: the data has no such images. Set data.{config.split}_fraction above 0, or use the "
            "other split."
        )
    return sample_images(split, config.images, seed=config.train.seed, stream="tokens")


def _write(run: Run, names: list[str], by_image_NL: Tensor) -> RunOutcome:
    """Write tokens.csv and tokens.png into the run folder; return the outcome."""
    means, deviations = by_image_NL.mean(0).tolist(), by_image_NL.std(0, correction=0).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "name", "similarity", "deviation_over_images", "images"])
    for layer, row in enumerate(zip(names, means, deviations, strict=True)):
        writer.writerow([layer, *row, len(by_image_NL)])
    table, figure = run.folder / "tokens.csv", run.folder / "tokens.png"
    run.write(table, lambda: write_atomic(table, text.getvalue()))
    run.write(figure, lambda: write_atomic(figure, draw_similarity(means, deviations)))
    return RunOutcome(
        RunStatus.FINISHED, f"cosine similarity of tokens: stem {means[0]:.3f}, last block {means[-1]:.3f}"
    )
