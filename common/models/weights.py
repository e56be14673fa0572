"""Weight loading: `load_init` initializes a network from the recipe key `init`.

Loading is strict: one error lists all tensors that are missing, unexpected, of another shape or type, or not finite, and
nothing is loaded.
Differences that are allowed and logged: a classifier with another number of classes keeps its random initialization, a position
embedding for another grid is resized once, as in timm (bicubic, antialiased), and the stem is adapted to another number of channels
(`weight_adaptation`). No pickle that could execute code is loaded.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.checkpoint_files import SUMS
from common.errors import UserError
from common.models.classifier import classifier_names
from common.models.config_files import label_names, settings_of_file
from common.models.failed_run import failure_of_run
from common.models.network_of_weights import describe_network, is_network_of
from common.models.network_settings import (
    NetworkSettings,
    differing_settings,
    incompatible_settings,
    settings_of_network,
)
from common.models.other_networks import kind_of_network
from common.models.patch_geometry import read_config
from common.models.position_embedding import NAME as POSITION_EMBEDDING
from common.models.position_embedding import UnknownGridError, own_grid, resize_position_embedding
from common.models.weight_adaptation import adapt_input_channels, adapt_zero_biases
from common.models.weight_files import Weights, read_weights

logger = logging.getLogger(__name__)

_LISTED = 24
"""Names that an error lists of each group."""


@dataclass(frozen=True, kw_only=True)
class InitReport:
    """Result of loading weights."""

    source: str
    """File or model name that the weights were read from."""
    num_loaded: int
    """Number of loaded tensors."""
    head: str
    """loaded, fresh (the weights have no classifier for these classes), dropped (the network has none), or none."""
    resized_from: tuple[int, int] | None
    """Original grid of a resized position embedding, (rows, columns) of patches; None if it was not resized."""
    channels: tuple[int, int] | None = None
    """Input channels of the weights and of the network, if the first convolution was adapted."""
    zero_biases: int = 0
    """Number of attention biases that are 0 and were dropped or added (DINOv3)."""
    network: str | None = None
    """Name of the loaded network in a file that names its networks: teacher, average, model ..."""


def load_init(model: nn.Module, init: str, *, class_names: Sequence[str] | None = None) -> InitReport:
    """Load the weights of the recipe key `init` into `model`, whose classifier is one of `class_names`.

    `init` is a run folder (its `export/` is read), a checkpoint of a run, a folder with `model.safetensors` or
    `pytorch_model.bin` (timm's or transformers'), a `.safetensors` file, a `.pth` file of tensors (a backbone of DINO, DINOv2 or
    DINOv3, or the teacher of a training checkpoint), `timm:<name>` or a timm name, `hf-hub:<id>`, or `local-dir:<folder>`.

    A classifier is not loaded if it has another number of classes, or if the weights name other classes (`label_names` in the
    config.json of an export, `id2label` in transformers'). Raise UserError for a source that does not exist or is incomplete, for
    any tensor that does not fit, and for another number of heads or rotary embedding than the weights state.
    """
    read = read_weights(init)
    if read.lacks_sums:
        logger.warning(
            "init: warning: %s is a checkpoint without %s beside it, so it is not verified", read.source, SUMS
        )
    source, weights = read.source, dict(read.network.tensors)
    _check_types(init, weights)
    expected = dict(model.state_dict())
    stated = read.settings
    config: Mapping[str, Any] = {}
    if (path := Path(read.source)).is_file():  # not a name of timm
        config, stated = read_config(path), settings_of_file(path, read.layout).or_else(stated)
    other_class = _other_class(label_names(config), class_names)
    head = _match_head(model, weights, expected, fits=other_class is None)
    channels, zero_biases = adapt_input_channels(model, weights), adapt_zero_biases(weights, expected)
    resized_from, problem = None, None
    try:
        resized_from = resize_position_embedding(model, weights, read.geometry, source=source)
    except UnknownGridError as error:
        problem = str(error)
    _check_fit(init, read, weights, expected, grid_problem=problem)
    own = settings_of_network(model)
    _check_settings(init, own, stated)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(weights[name])
    report = InitReport(
        source=source,
        num_loaded=len(expected),
        head=head,
        resized_from=resized_from,
        channels=channels,
        zero_biases=zero_biases,
        network=read.network.name,
    )
    _log(report, read, model, tuple(differing_settings(own, stated)), other_class)
    return report


def _other_class(given: Sequence[str] | None, own: Sequence[str] | None) -> str | None:
    """Return in words the first class in which the names that weights give differ from our own; None if none does."""
    if own is None or given is None or len(given) != len(own):
        return None
    pairs = ((number, name, mine) for number, (name, mine) in enumerate(zip(given, own, strict=True)))
    return next(
        (f"class {number} is '{name}' there and '{mine}' here" for number, name, mine in pairs if name != mine), None
    )


def _log(
    report: InitReport, read: Weights, model: nn.Module, differing: Sequence[str], other_class: str | None
) -> None:
    """Log what was loaded, what was left and what was changed."""
    layout = "" if read.layout == "timm" else f", in the layout of {read.layout}"
    logger.info("init: %d tensors loaded from %s%s", report.num_loaded, report.source, layout)
    if (description := read.network.describe()) is not None:
        logger.info("init: %s", description)
    if (failure := failure_of_run(Path(read.source))) is not None:
        logger.warning(
            "init: warning: the run of these weights ended as %s; weights of another run may be better", failure
        )
    if read.had_distillation_token:
        logger.warning(
            "init: warning: the weights are of a network with a distillation token, which is dropped with its position embedding"
            " and classifier: until this network is trained further, its features and predictions differ from that one's"
        )
    if differing:
        logger.warning(
            "init: warning: the network of the weights has %s; model.name=init builds it so, if timm can",
            " and ".join(differing),
        )
    if report.head == "fresh" and other_class is not None:
        logger.warning(
            "init: warning: the classifier keeps its random initialization, since that of the weights is for other classes: %s",
            other_class,
        )
    elif report.head == "fresh":
        logger.info(
            "init: the classifier keeps its random initialization, since the weights have none with this number of classes"
        )
    elif report.head == "dropped":
        logger.info("init: the classifier of the weights is dropped, since this network has none")
    if report.channels is not None:
        given, wanted = report.channels
        how = "summed" if wanted == 1 else f"repeated in turn, times {given}/{wanted},"
        logger.info("init: the stem's %d input channels %s for the %d of this network", given, how, wanted)
    if report.zero_biases:
        logger.info("init: %d biases of queries and values are 0, as in a network without them", report.zero_biases)
    if report.resized_from is not None:
        logger.info(
            "init: position embedding resized from %dx%d to %dx%d patches, once (bicubic, antialiased, as timm does)",
            *report.resized_from,
            *own_grid(model),
        )


def _match_head(model: nn.Module, weights: dict[str, Tensor], expected: dict[str, Tensor], *, fits: bool) -> str:
    """Exclude the classifier from loading if only its classes differ; return the value of `InitReport.head`.

    `fits`: whether its classes are the same, if their number is.

    Of a network with two classifiers, VOLO's of the image and of the tokens, either both are loaded or neither: they have the
    same number of classes.
    """
    classifiers = classifier_names(model)
    first = f"{classifiers[0]}.weight"
    given, own = weights.get(first), expected.get(first)
    if given is not None and own is not None:
        only_count_differs = given.shape[1:] == own.shape[1:] and given.shape[:1] != own.shape[:1]
        if fits and not only_count_differs:
            return "loaded"
    for name in (f"{classifier}.{kind}" for classifier in classifiers for kind in ("weight", "bias")):
        weights.pop(name, None)
        expected.pop(name, None)
    if own is not None:
        return "fresh"
    return "none" if given is None else "dropped"


def _check_types(init: str, weights: Mapping[str, Tensor]) -> None:
    """Raise one UserError that lists every tensor that is not a dense array of real numbers.

    `num_batches_tracked` is an integer; all other tensors are floating-point, of any precision.
    """
    unsupported = [
        f"{name} ({tensor.dtype}, {str(tensor.layout).removeprefix('torch.')}, on {tensor.device.type})"
        for name, tensor in weights.items()
        if tensor.layout != torch.strided
        or tensor.device.type == "meta"
        or not (tensor.is_floating_point() or (tensor.dtype == torch.int64 and tensor.dim() == 0))
    ]
    if unsupported:
        raise UserError(
            f"init: the weights of {init} are not all dense floating-point tensors; save the network's state_dict in"
            f" float32\n  {len(unsupported)} of another type: {', '.join(unsupported)}"
        )


def _check_settings(init: str, own: NetworkSettings, stated: NetworkSettings) -> None:
    """Raise UserError if the weights state a setting with which this network's features would be others."""
    if problems := list(incompatible_settings(own, stated)):
        raise UserError(
            f"init: the network of the weights {init} has {' and '.join(problems)}: set model.name=init to build it, or state it"
            " for a network with a timm name as in parentheses"
        )


def _check_fit(
    init: str,
    read: Weights,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    grid_problem: str | None,
) -> None:
    """Raise one UserError that lists every tensor that is missing, unexpected, of another shape or not finite.

    `grid_problem` says why the position embedding cannot be resized, if it cannot.
    """
    shared = [name for name in expected if name in weights]
    groups = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in shared
            if weights[name].shape != expected[name].shape and (name != POSITION_EMBEDDING or grid_problem is None)
        ],
        "not finite": [name for name in shared if not torch.isfinite(weights[name].to(expected[name].dtype)).all()],
    }
    found = {problem: names for problem, names in groups.items() if names}
    if not found and grid_problem is None:
        return
    layout = "" if read.layout == "timm" else f", in the layout of {read.layout},"
    remedy = _remedy(read, expected)
    if not found:
        raise UserError(f"init: the position embedding of {init} does not fit this network: {grid_problem}")
    if list(found) == ["not finite"]:
        remedy = "the run that wrote them diverged or the file is damaged; use earlier weights"
    elif (channels := _other_channels(weights, expected, found)) is not None and grid_problem is None:
        remedy = f"they are of images with {channels} channels; set data.channels={channels}, or use other weights"
    lines = [f"  {len(names)} {problem}: {', '.join(_shortened(names))}" for problem, names in found.items()]
    lines += [f"  position embedding: {grid_problem}"] if grid_problem else []
    raise UserError("\n".join([f"init: the weights of {init}{layout} do not fit this network; {remedy}", *lines]))


def _remedy(read: Weights, expected: Mapping[str, Tensor]) -> str:
    """Return what to do about weights whose tensors are not those of the network."""
    if (kind := kind_of_network(read.network.tensors)) is not None:
        return f"they are {kind}"
    described, keys = (
        describe_network(read),
        "model.name, model.patch_size, model.stem, model.stem_strides and model.ffn",
    )
    if not described:
        return f"set {keys} to those of the network that they are of, or use other weights"
    if is_network_of(read, expected):
        return f"model.name=init gives this network, and they are of another or incomplete: set {keys} to theirs"
    return f"set model.name=init to build the network of the weights, or set {keys} to those of the weights{described}"


def _shortened(names: Sequence[str]) -> list[str]:
    """Return names of tensors for a message: of many, those that differ in a block's number as one, and the first of these."""
    if len(names) <= _LISTED:
        return list(names)
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(re.sub(r"\.\d+\.", ".*.", name.partition(" ")[0]), []).append(name)
    words = [f"{pattern} ({len(group)})" if len(group) > 1 else group[0] for pattern, group in groups.items()]
    return [*words[:_LISTED], *([f"and {len(words) - _LISTED} more"] if len(words) > _LISTED else [])]


def _other_channels(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], found: Mapping[str, list[str]]
) -> int | None:
    """Return the input channels of the weights if the first convolution differs in them, and nothing else does; otherwise None."""
    if list(found) != ["of another shape"] or len(found["of another shape"]) != 1:
        return None
    name = found["of another shape"][0].partition(" ")[0]
    given, own = weights[name].shape, expected[name].shape
    return given[1] if len(given) == len(own) == 4 and (given[0], *given[2:]) == (own[0], *own[2:]) else None
