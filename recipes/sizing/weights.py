"""Public weights of a sized study: whether they can be had, and what they are."""

from common.errors import UserError
from recipes.sizing.from_public import PublicWeights

FALLBACK_SIDE = 224
"""Side of the images of weights that state none, in pixels."""


def find_public(init: str | None) -> tuple[PublicWeights | None, tuple[str, ...]]:
    """Return public weights, fetched if need be, or None and a sentence that says why there are none.

    Raise UserError for a file or folder that is there but holds no weights of a vision transformer: that is a mistake, not an
    absence.
    """
    if init is None:
        return None, ("public and continued: no public weights are given (--public none).",)
    from common.models.init_network import is_own_weights, network_of_init
    from common.models.networks import ModelConfig, build_network
    from common.models.weight_files import find_local_weights, read_weights

    try:
        read_weights(init)
        network = network_of_init(init)
    except UserError as error:
        if find_local_weights(init) is not None:
            raise
        reason = str(error).splitlines()[0]
        return None, (f"public and continued: {init} cannot be had here ({reason.rstrip('.')}).",)
    import torch

    model = ModelConfig(
        name=network.name,
        patch_size=network.patch_size,
        kwargs=tuple(network.kwargs),
        stem=network.stem,
        stem_strides=network.stem_strides,
        ffn=network.ffn,
    )
    side = _side(init)
    with torch.device("meta"):
        built = build_network(model, image_size=side, num_classes=0, in_chans=3)
    patch = model.patch()
    assert patch is not None, "network_of_init names transformers alone"
    parameters = sum(parameter.numel() for parameter in built.parameters())
    return PublicWeights(init, side, patch, parameters, is_own_weights(init)), ()


def _side(init: str) -> int:
    """Return the side of the images that weights were trained on, in pixels."""
    import timm

    from common.models.checkpointed import is_checkpoint, recipe_of
    from common.models.patch_geometry import read_config, read_recipe
    from common.models.weight_files import find_weights
    from common.sizes import height_and_width

    path = find_weights(init, fetch=False)
    if path is None:
        scheme, _, name = init.partition(":")
        config = timm.get_pretrained_cfg(name if scheme == "timm" else init)
        found = config.input_size[-2:] if config is not None else None
    elif is_checkpoint(path):
        size = (read_recipe(recipe_of(path)).get("data") or {}).get("image_size")
        found = None if size is None else height_and_width(tuple(size) if isinstance(size, list) else size)
    else:
        config = read_config(path)
        size = ((config.get("pretrained_cfg") or {}).get("input_size") or [None])[-2:]
        found = size if None not in size else config.get("image_size")
    sides = [found] if isinstance(found, int) else list(found or [])
    return min([side for side in sides if isinstance(side, int)], default=FALLBACK_SIDE)
