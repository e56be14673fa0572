"""Owns the look at tokens: how alike they are layer by layer, as numbers, a table and a figure in the run folder."""

import csv
import io
from pathlib import Path

import torch
from torch import Tensor

from common.data.loading.corrupt import build_error_count
from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.errors import UserError
from common.evaluation.config import TokensConfig
from common.evaluation.frozen import build_frozen
from common.evaluation.inference import Stopped, draw_images, look_at, num_batches
from common.evaluation.token_similarity import LayerSimilarities, layer_names
from common.files import write_whole
from common.training.progress import Progress
from common.training.run import Run
from common.training.status import Ending, Verdict


def evaluate(config: TokensConfig, overrides: list[str]) -> int:
    """Look at the images once and write the result; return the exit code. A run that was stopped begins again."""
    run = Run(config, config.train.as_train(), stage="tokens", out=config.out, overrides=overrides)
    if run.has_ended():
        return 0
    run.restore()  # there is no checkpoint, but perhaps the log of a try that did not come to its end
    splits = open_splits(config.data, labelled=False)
    split = choose_images(config, splits)
    similarities = build_similarities(config).to(run.device)
    names, metrics, images = layer_names(similarities.network), dict[str, float](), 0
    batch_size = config.train.batch_size
    progress = Progress(run, num_batches(split, run, batch_size), batch_size)
    try:
        by_image, _ = look_at(
            split, similarities, run, config.data, crop=config.crop, batch_size=batch_size, progress=progress
        )
        images, ending = len(split), Ending(Verdict.CRASH, f"tokens are not finite in {config.train.precision}")
        if bool(torch.isfinite(by_image).all()):
            metrics = {f"similarity_{layer:02d}": value for layer, value in enumerate(by_image.mean(0).tolist())}
            ending = _write(run, names, by_image)
            run.log(0, 0, metrics)
    except Stopped:
        ending = run.interrupted()
    return run.finish(
        ending,
        step=0,
        images=images,
        train_images=0,
        parameters=sum(parameter.numel() for parameter in similarities.parameters()),
        metrics=metrics,
        layers=names,
        **build_error_count(config.data, splits, run.accelerator).facts(),
    )


def build_similarities(config: TokensConfig) -> LayerSimilarities:
    """Return what turns normalised images into similarities by layer, of the network that the recipe names."""
    network = build_frozen(config.model, config.init, image_size=config.data.image_size, seed=config.train.seed)
    similarities = LayerSimilarities(network).eval()  # type: ignore[arg-type]
    if similarities.network.patch_embed.num_patches < 2:
        raise UserError(
            f"data.image_size = {config.data.image_size}: makes a single patch, and one token has no other to be like. "
            "Give a larger size or smaller patches."
        )
    return similarities


def choose_images(config: TokensConfig, splits: Splits) -> Split:
    """Return the images to look at: all of the named split, or a draw of them; raise UserError where it is not there."""
    split: Split | None = getattr(splits, config.split)
    if split is None:
        raise UserError(
            f"split = {config.split}: the data has no such images. Set data.{config.split}_fraction above 0, or take the "
            "other split."
        )
    return draw_images(split, config.images, seed=config.train.seed, stream="tokens")


def _write(run: Run, names: list[str], by_image_NL: Tensor) -> Ending:
    """Write tokens.csv and tokens.png into the run folder; return how the evaluation ended."""
    means, deviations = by_image_NL.mean(0).tolist(), by_image_NL.std(0, correction=0).tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["layer", "name", "similarity", "deviation_over_images", "images"])
    for layer, row in enumerate(zip(names, means, deviations, strict=True)):
        writer.writerow([layer, *row, len(by_image_NL)])
    table, figure = run.folder / "tokens.csv", run.folder / "tokens.png"
    run.write(table, lambda: write_whole(table, text.getvalue()))
    run.write(figure, lambda: _draw(means, deviations, figure))
    return Ending(Verdict.FINISHED, f"cosine similarity of tokens: stem {means[0]:.3f}, last block {means[-1]:.3f}")


def _draw(means: list[float], deviations: list[float], path: Path) -> None:
    """Draw similarity over layers, with a band of one deviation over images."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = drawing.subplots()
    layers = list(range(len(means)))
    low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
    high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
    axes.fill_between(layers, low, high, color="#1559c7", alpha=0.15, linewidth=0)
    axes.plot(layers, means, color="#1559c7", marker="o", markersize=4)
    axes.set(xlabel="layer (0 stem, 1 position embedding, then the blocks)", ylabel="cosine similarity of tokens")
    axes.grid(color="#dde2ea")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, dpi=200, metadata={"Software": None})
