"""Owns how parts of a network are replaced by others that compute the same in another way."""

from collections.abc import Callable

from torch import nn


def replace_modules(module: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Return the module, each part of it, itself included, replaced by its `replacement`; None leaves it and looks inside."""
    if (other := replacement(module)) is not None:
        return other
    for name, child in module.named_children():
        module.add_module(name, replace_modules(child, replacement))
    return module
