"""In-place replacement of submodules by equivalent implementations."""

from collections.abc import Callable

from torch import nn


def replace_modules(module: nn.Module, replacement: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """Return the module with every submodule, itself included, replaced by its `replacement`; for None, recurse into it."""
    if (new := replacement(module)) is not None:
        return new
    for name, child in module.named_children():
        module.add_module(name, replace_modules(child, replacement))
    return module
