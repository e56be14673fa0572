"""Owns the count of a network's cost as a stage: what Early Convolutions' table of models prints, as a run's metrics."""

import torch

from common.evaluation.config import ComplexityConfig, PassConfig
from common.models.complexity import Complexity, measure
from common.models.networks import build_network
from common.training.run import Run
from common.training.status import Ending, Verdict


def count(config: ComplexityConfig) -> Complexity:
    """Return the cost of one image's forward pass; the network is built without memory, and nothing is computed."""
    with torch.device("meta"):
        network = build_network(config.model, image_size=config.image_size, num_classes=config.num_classes)
    return measure(network, config.image_size)


def describe(config: ComplexityConfig) -> str:
    """Return the count in words: it costs no more than to say what it would cost."""
    size = count(config)
    return (
        f"\n{config.model.name}: {size.parameters / 1e6:.2f} M parameters, {size.multiply_adds / 1e9:.3f} G multiply-adds, "
        f"{size.activations / 1e6:.2f} M activations at {config.image_size} px"
    )


def evaluate(config: ComplexityConfig, overrides: list[str]) -> int:
    """Count and write the result; return the exit code."""
    run = Run(config, PassConfig().as_train(), stage="complexity", out=config.out, overrides=overrides)
    if run.has_ended():
        return 0
    run.accept()
    size = count(config)
    return run.finish(
        Ending(Verdict.FINISHED, describe(config).strip()),
        step=0,
        images=0,
        train_images=0,
        parameters=size.parameters,
        metrics={
            "parameters_millions": size.parameters / 1e6,
            "multiply_adds_billions": size.multiply_adds / 1e9,
            "activations_millions": size.activations / 1e6,
        },
    )
