"""Files of published weights: from the local cache at once, otherwise from the Hugging Face hub, if it can be reached.

The hub's client repeats requests for up to a minute without a connection. Here a file in the cache is used without any request, and
whether the hub answers is tested first, for a few seconds.
"""

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.models.weights_error import AbsentWeights, WeightsError

WEIGHT_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
"""Names of files of weights, the one to take first."""
_BESIDE = ("config.json", "preprocessor_config.json", "open_clip_config.json")
"""Files that describe the weights; a repository has some of them."""
_SECONDS = 4.0
"""Time in which a server must answer."""


def cached_weights(repository: str, file: str | None = None) -> Path | None:
    """Return the cached file of weights of a repository (`owner/name`, `owner/name@revision`), or None. No request is made."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = repository.partition("@")
    for candidate in [file] if file else WEIGHT_FILES:
        path = try_to_load_from_cache(name, candidate, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
    return None


def fetch_weights(repository: str, init: str) -> Path:
    """Return the file of weights of a repository, from the cache or downloaded with the files that describe it.

    Raise WeightsError if it is not in the cache and cannot be downloaded.
    """
    if (path := cached_weights(repository)) is not None:
        return path
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    check_reachable(constants.ENDPOINT, init)
    name, _, revision = repository.partition("@")
    found: dict[str, Path] = {}
    try:
        for file in (*_BESIDE, *WEIGHT_FILES):
            if file in WEIGHT_FILES and found.keys() & set(WEIGHT_FILES):
                break
            try:
                found[file] = Path(hf_hub_download(name, file, revision=revision or None))
            except LocalEntryNotFoundError:  # a kind of the next, for a connection that is lost
                raise
            except EntryNotFoundError:
                continue
    except Exception as error:  # the hub's client and the network raise many types
        raise not_downloaded(init, error) from error
    weights = next((found[file] for file in WEIGHT_FILES if file in found), None)
    if weights is None:
        raise WeightsError(f"{init!r} has none of the files {', '.join(WEIGHT_FILES)}; use other weights")
    return weights


def check_reachable(url: str, init: str) -> None:
    """Raise AbsentWeights unless the server of a URL answers within a few seconds, through a proxy if one is set."""
    from huggingface_hub import constants

    answer: list[BaseException | None] = []
    if constants.HF_HUB_OFFLINE:
        raise _absent(init, "HF_HUB_OFFLINE is set")
    thread = threading.Thread(target=lambda: answer.append(_ask(url)), daemon=True)  # name look-ups have no time limit
    thread.start()
    thread.join(_SECONDS)
    if not answer:
        raise _absent(init, f"{url} does not answer within {_SECONDS:g} seconds")
    if answer[0] is not None:
        raise _absent(init, f"{url} cannot be reached: {answer[0]}") from answer[0]


def not_downloaded(init: str, error: BaseException) -> AbsentWeights:
    """Return the error for weights that a server answered for, but did not give."""
    reason = " ".join(str(error).split())
    return AbsentWeights(
        f"{init!r} could not be downloaded; check the name and the connection, or download the weights and use the file"
        f" ({type(error).__name__}: {reason})"
    )


def _absent(init: str, reason: str) -> AbsentWeights:
    """Return the error for weights that are not in the cache, without a connection."""
    from huggingface_hub import constants

    return AbsentWeights(
        f"{init!r} is not in the cache {constants.HF_HUB_CACHE}, and {reason}; connect once, or copy the weights here and use"
        " their file or folder"
    )


def _ask(url: str) -> BaseException | None:
    """Return None if a server answers, whatever it answers, otherwise the error."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS - 0.5):
            return None
    except urllib.error.HTTPError:
        return None
    except Exception as error:  # also http.client's; a wrong certificate counts as no answer
        return getattr(error, "reason", None) if isinstance(getattr(error, "reason", None), BaseException) else error


def timm_arguments(name: str, init: str) -> dict[str, Any]:
    """Return the arguments with which `timm.create_model(name, pretrained=True)` takes weights from the cache, if they are there.

    Raise AbsentWeights if they are not, and their server does not answer.
    """
    import timm

    cached, server = timm_source(timm.get_pretrained_cfg(name))
    if cached is not None:
        return {"pretrained_cfg_overlay": {"file": str(cached)}}
    if server:
        check_reachable(server, init)
    return {}


def timm_source(cfg: Any) -> tuple[Path | None, str]:
    """Return the cached file of the weights that timm's config names, or None, and the server to ask for them otherwise."""
    from huggingface_hub import constants
    from torch.hub import get_dir

    if repository := getattr(cfg, "hf_hub_id", None):
        return cached_weights(repository, cfg.hf_hub_filename), constants.ENDPOINT
    url = urlsplit(getattr(cfg, "url", None) or "")
    cached = Path(get_dir()) / "checkpoints" / Path(url.path).name
    return (cached if cached.is_file() else None), f"{url.scheme}://{url.netloc}" if url.netloc else ""
