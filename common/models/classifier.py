"""Owns the question which layers of a network are its classifier: one, or two where the tokens have their own."""

from torch import nn


def classifier_names(network: nn.Module) -> tuple[str, ...]:
    """Return the names of the classifier's layers, also of a network built without one: `head`, `head.fc`, VOLO's `aux_head`.

    The one that classifies the image comes first, a VOLO's `aux_head` of the tokens second. A network that timm knows
    nothing of has its classifier under `head`.
    """
    get_classifier = getattr(network, "get_classifier", None)
    classifier = get_classifier() if callable(get_classifier) else None
    name = next((name for name, module in network.named_modules() if module is classifier), "head")
    return (name, "aux_head") if hasattr(network, "aux_head") else (name,)


def classifier_layers(network: nn.Module) -> list[nn.Linear]:
    """Return the linear layers that put out classes; none where the network was built without classes."""
    layers = dict(network.named_modules())
    found = [layers.get(name) for name in classifier_names(network)]
    return [layer for layer in found if isinstance(layer, nn.Linear)]
