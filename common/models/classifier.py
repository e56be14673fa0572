"""Classifier layers of a network: one, or two if the tokens have a classifier of their own."""

from torch import nn


def classifier_names(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the classifier layers, also for a network built without classes: `head`, `head.fc`, `aux_head`.

    The classifier of the image comes first, VOLO's `aux_head` of the tokens second. The classifier of a network without timm's
    `get_classifier` is named `head`.
    """
    get_classifier = getattr(network, "get_classifier", None)
    classifier = get_classifier() if callable(get_classifier) else None
    name = next((name for name, module in network.named_modules() if module is classifier), "head")
    return (name, "aux_head") if hasattr(network, "aux_head") else (name,)


def classifier_layers(network: nn.Module) -> list[nn.Linear]:
    """Return the linear layers that output class logits; an empty list if the network was built without classes."""
    layers = dict(network.named_modules())
    found = [layers.get(name) for name in classifier_names(network)]
    return [layer for layer in found if isinstance(layer, nn.Linear)]
