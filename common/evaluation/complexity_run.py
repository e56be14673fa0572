"""Complexity as a stage: parameters, MACs and activations of a network, as in the complexity table of Early Convolutions."""

from common.evaluation.config import ComplexityConfig
from common.models.complexity import Complexity, measure
from common.models.meta import on_meta_device
from common.models.networks import build_network
from common.training.run import start_run
from common.training.status import RunOutcome, RunStatus


def count(config: ComplexityConfig) -> Complexity:
    """Return the complexity of one image's forward pass; the network is built on the meta device, nothing is computed."""
    with on_meta_device():
        network = build_network(config.model, image_size=config.image_size, num_classes=config.num_classes)
    return measure(network, config.image_size)


def describe(config: ComplexityConfig) -> str:
    """Return the complexity in words; counting is as cheap as a dry run."""
    complexity = count(config)
    return (
        f"\n{config.model.name}: {complexity.parameters / 1e6:.2f} M parameters, {complexity.macs / 1e9:.3f} GMACs, "
        f"{complexity.activations / 1e6:.2f} M activations at {config.image_size} px"
    )


def evaluate(config: ComplexityConfig, overrides: list[str]) -> int:
    """Count, write the result and return the exit code."""
    run = start_run(config, stage="complexity", precision="fp32", overrides=overrides)
    if run.has_ended():
        return 0
    run.accept()
    complexity = count(config)
    return run.finish(
        RunOutcome(RunStatus.FINISHED, describe(config).strip()),
        step=0,
        images=0,
        train_images=0,
        parameters=complexity.parameters,
        metrics={
            "parameters_millions": complexity.parameters / 1e6,
            "macs_billions": complexity.macs / 1e9,
            "activations_millions": complexity.activations / 1e6,
        },
    )
