"""Files of published weights: from the local cache at once, otherwise from the Hugging Face hub, if it can be reached.

The hub's client repeats requests for up to a minute without a connection. Here a file in the cache is used without any request, and
whether the hub answers is tested first, for a few seconds.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.errors import did_you_mean, quoted
from common.models.sharded_weights import INDEX_FILE, PICKLED_INDEX_FILE, is_index, missing_shards, shards_of
from common.models.weights_error import AbsentWeights, WeightsError
from common.servers import why_unreachable

WEIGHT_FILES = (
    "model.safetensors",
    INDEX_FILE,
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    PICKLED_INDEX_FILE,
    "open_clip_pytorch_model.bin",
)
"""Names of files of weights, the one to take first. An index stands for the files that it names."""
_BESIDE = ("config.json", "preprocessor_config.json", "processor_config.json", "open_clip_config.json")
"""Files that describe the weights; a repository has some of them."""
_URL = re.compile(r"(https?://)?(huggingface\.co|hf\.co)/(?P<name>[^/]+/[^/]+?)(/|/tree/(?P<revision>[^/]+)/?)?")
"""Address of a repository's page."""


def cached_weights(repository: str, file: str | None = None) -> Path | None:
    """Return the cached file of weights of a repository (`owner/name`, `owner/name@revision`), or None. No request is made.

    An index counts only if all files that it names are cached. Raise WeightsError for an index that is damaged.
    """
    path = _cached(repository, (file,) if file else WEIGHT_FILES)
    return None if path is None or _lacking(path) else path


def split_repository(repository: str) -> tuple[str, str | None]:
    """Return name and revision of a repository (`owner/name`, `owner/name@revision`, the address of its page).

    Raise WeightsError for what is no name of a repository.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    page = _URL.fullmatch(repository)
    name, _, revision = repository.partition("@") if page is None else (page["name"], "", page["revision"] or "")
    try:
        if any(character.isspace() for character in repository):
            raise HFValidationError("a blank")
        validate_repo_id(name)
    except HFValidationError as error:
        raise WeightsError(
            f"'hf-hub:{repository}' names no repository of the Hugging Face hub; use hf-hub:<owner>/<name> or"
            " hf-hub:<owner>/<name>@<revision>, without blanks"
        ) from error
    return name, revision or None


def _cached(repository: str, files: Sequence[str]) -> Path | None:
    """Return the first of these files of a repository that is in the cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    name, revision = split_repository(repository)
    paths = (try_to_load_from_cache(name, file, revision=revision) for file in files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def fetch_descriptions(repository: str, init: str) -> str | None:
    """Download the files that describe cached weights and that the cache lacks; return why not, or None if all is known.

    The cache also records which files a repository has not. Whether the hub answers is asked once in a process, for some seconds.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    name, revision = split_repository(repository)
    unknown = [file for file in _BESIDE if try_to_load_from_cache(name, file, revision=revision) is None]
    if not unknown:
        return None
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if (reason := _why_no_hub(constants.ENDPOINT)) is not None:
        return reason
    try:
        for file in unknown:
            _download(repository, file)
    except Exception as error:  # the hub's client and the network raise many types
        return not_downloaded(init, error).reason
    return None


@lru_cache(maxsize=8)
def _why_no_hub(endpoint: str) -> str | None:
    """Return why the hub cannot be reached, asked once in a process; None if it can."""
    found = why_unreachable(endpoint)
    return None if found is None else found[0]


def _lacking(path: Path) -> list[str]:
    """Return the names of the files that a cached file of weights stands for and that are not in the cache."""
    return missing_shards(path) if is_index(path) else []


def fetch_weights(repository: str, init: str) -> Path:
    """Return the file of weights of a repository, from the cache or downloaded with the files that describe it.

    Raise WeightsError if it is not in the cache and cannot be downloaded.
    """
    if (path := cached_weights(repository)) is not None:
        return path
    incomplete = _cached(repository, WEIGHT_FILES)
    from huggingface_hub import constants

    check_reachable(constants.ENDPOINT, init, lacking=_lacking(incomplete) if incomplete else ())
    try:
        for file in _BESIDE:
            _download(repository, file)
        weights = next(filter(None, (_download(repository, file) for file in WEIGHT_FILES)), None)
        if weights is None:
            raise WeightsError(f"{init!r} has none of the files {', '.join(WEIGHT_FILES)}; use other weights")
        for shard in shards_of(weights) if is_index(weights) else ():
            if _download(repository, shard.name) is None:
                raise WeightsError(
                    f"{init!r} lacks the file {shard.name!r}, which its {weights.name} names; use other weights"
                )
    except WeightsError:
        raise
    except Exception as error:  # the hub's client and the network raise many types
        raise not_downloaded(init, error) from error
    return weights


def _download(repository: str, file: str) -> Path | None:
    """Return a file of a repository, from the cache or downloaded; None if the repository has none of this name."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    name, revision = split_repository(repository)
    try:
        return Path(hf_hub_download(name, file, revision=revision))
    except LocalEntryNotFoundError:  # a kind of the next, for a connection that is lost
        raise
    except EntryNotFoundError:
        return None


def check_reachable(url: str, init: str, *, lacking: Sequence[str] = ()) -> None:
    """Raise AbsentWeights unless the server of a URL answers within a few seconds, through a proxy if one is set.

    `lacking` are the files that the cache lacks, if it has others of the weights.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise _absent(init, lacking, "HF_HUB_OFFLINE is set")
    if (found := why_unreachable(url)) is not None:
        reason, error = found
        raise _absent(init, lacking, reason) from error


def not_downloaded(init: str, error: BaseException) -> AbsentWeights:
    """Return the error for weights that a server answered for, but did not give."""
    reason = " ".join(str(error).split())
    return AbsentWeights(
        f"{init!r} could not be downloaded; check the name and the connection, or download the weights and use the file"
        f" ({type(error).__name__}: {reason})"
    )


def _absent(init: str, lacking: Sequence[str], reason: str) -> AbsentWeights:
    """Return the error for weights that are not in the cache, without a connection."""
    from huggingface_hub import constants

    cache = f"in the cache {constants.HF_HUB_CACHE}"
    found = f"{cache} without {quoted(lacking, limit=3)}" if lacking else f"not {cache}"
    return AbsentWeights(
        f"{init!r} is {found}, and {reason}; connect once, or copy the weights here and use their file or folder"
    )


def check_timm_name(name: str, init: str) -> None:
    """Raise WeightsError for a name of timm's with a tag that no weights of this model have, or of a model that timm has not."""
    import timm

    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise WeightsError(f"{init!r} is no model of timm.{did_you_mean(base, timm.list_models())} Correct the name")
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{base}.*")]
        there = f"use one of {', '.join(tags)}" if tags else "use another model"
        raise WeightsError(f"{init!r}: timm has no weights {tag!r} of {base}; {there}") from error


def timm_arguments(name: str, init: str) -> dict[str, Any]:
    """Return the arguments with which `timm.create_model(name, pretrained=True)` takes weights from the cache, if they are there.

    Raise AbsentWeights if they are not, and their server does not answer.
    """
    import timm

    check_timm_name(name, init)
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
