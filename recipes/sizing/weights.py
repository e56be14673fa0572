"""Public weights of a sized study: whether they can be had, and what they are."""

from common.errors import UserError, did_you_mean
from recipes.sizing.from_public import PublicWeights

FALLBACK_SIDE = 224
"""Side of the images of weights that state none, in pixels."""


def find_public(init: str | None) -> tuple[PublicWeights | None, tuple[str, ...]]:
    """Return public weights, fetched if need be, or None and a sentence that says why there are none.

    Weights of timm or the hub that are not here and cannot be downloaded are absent. Anything else that cannot be used is a
    mistake: a path without a file, an unknown name, weights of another kind of network. Then raise UserError.
    """
    if init is None:
        return None, ("public and continued: no public weights are given (--public none).",)
    import timm

    from common.models.class_token import class_token_problem
    from common.models.init_network import is_own_weights, network_of_init
    from common.models.meta import on_meta_device
    from common.models.networks import ModelConfig, build_network
    from common.models.weight_files import read_weights
    from common.models.weights_error import AbsentWeights

    scheme, _, name = init.partition(":")
    if scheme == "timm" and not timm.is_model(name.partition(".")[0]):
        raise UserError(
            f"--public {init}: timm has no such model.{did_you_mean(name, timm.list_models())} Correct the name."
        )
    try:
        read_weights(init, key="--public")
    except AbsentWeights as error:
        return None, (f"public and continued: {init} cannot be had here ({error.reason}).",)
    try:
        network = network_of_init(init)
    except UserError as error:
        raise UserError(
            f"--public {init}: a sized study compares with weights whose network is known. Give other weights.\n  {error}"
        ) from error
    model = ModelConfig(
        name=network.name,
        patch_size=network.patch_size,
        kwargs=tuple(network.kwargs),
        stem=network.stem,
        stem_strides=network.stem_strides,
        ffn=network.ffn,
    )
    side = _side(init)
    with on_meta_device():
        built = build_network(model, image_size=side, num_classes=0, in_chans=3)
    patch = model.patch()
    assert patch is not None, "network_of_init names transformers alone"
    parameters = sum(parameter.numel() for parameter in built.parameters())
    pools_class_token = class_token_problem(built) is None
    return PublicWeights(init, side, patch, parameters, built.num_features, pools_class_token, is_own_weights(init)), ()


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
