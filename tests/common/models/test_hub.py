"""Published weights come from the cache without a request; what is not there fails at once where no server answers."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError
from safetensors.torch import save_file

from common import servers
from common.errors import UserError
from common.evaluation.config import KnnEvaluationConfig
from common.models import hub
from common.models.init_network import follow_init, network_of_init
from common.models.networks import ModelConfig
from common.models.weight_files import read_weights

NAME = "test_vit.r160_in1k"
"""timm's network for tests, 0.4 M parameters."""


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use an empty cache, and let nobody answer."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: nothing listens


def _cache(tmp_path: Path, repository: str, *, revision: str = "main") -> Path:
    """Return the folder of a repository's files in the cache."""
    root = tmp_path / "cache" / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / revision).write_text("0" * 40)
    folder = root / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    return folder


def _network(name: str = "vit_small_patch14_reg4_dinov2") -> tuple[Any, dict[str, int]]:
    options = {"embed_dim": 64, "depth": 1, "num_heads": 1, "img_size": 32, "patch_size": 8}
    return timm.create_model(name, num_classes=0, **options), options


@pytest.mark.parametrize("suffix", ["", "@main"])
def test_repository_in_the_cache_is_read_without_a_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    folder, (network, options) = _cache(tmp_path, "someone/network"), _network()
    save_file(network.state_dict(), folder / "model.safetensors")
    pretrained = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    config = {"architecture": "vit_small_patch14_reg4_dinov2", "model_args": options, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(hub, "check_reachable", lambda *_, **__: pytest.fail("a request"))
    init = f"hf-hub:someone/network{suffix}"
    weights = read_weights(init).network.tensors
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    recipe = KnnEvaluationConfig(out="out", init=init, model=ModelConfig(name="init"), data={"image_size": 32})
    followed = follow_init(recipe)
    assert (followed.model.name, followed.data.mean) == ("vit_small_patch14_reg4_dinov2", (0.1, 0.2, 0.3))


def test_timm_name_in_the_cache_is_read_without_a_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_vit")
    save_file(network.state_dict(), _cache(tmp_path, f"timm/{NAME}") / "model.safetensors")
    monkeypatch.setattr(hub, "check_reachable", lambda *_, **__: pytest.fail("a request"))
    weights = read_weights(f"timm:{NAME}").network.tensors
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("init", [f"timm:{NAME}", NAME, "hf-hub:someone/network"])
def test_weights_that_are_not_there_fail_at_once_without_a_connection(init: str) -> None:
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"not in the cache .*cache, and http://127\.0\.0\.1:9 cannot be reached"
    ) as error:
        read_weights(init)
    assert time.monotonic() - start < 5 and "\n" not in str(error.value)


def test_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_SECONDS", 0.1)
    monkeypatch.setattr(servers, "_ask", lambda _: time.sleep(30))
    with pytest.raises(UserError, match=r"does not answer within 0\.1 seconds"):
        read_weights("hf-hub:someone/network")


def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(servers, "_ask", lambda _: pytest.fail("a request"))
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        read_weights("hf-hub:someone/network")


def test_repository_is_downloaded_with_its_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = _network()
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    asked = []

    def download(repository: str, file: str, *, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if not (tmp_path / file).exists():
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr(hub, "check_reachable", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert read_weights("hf-hub:someone/network@abc").source == str(tmp_path / "pytorch_model.bin")
    assert ("someone/network", "config.json", "abc") in asked and (
        "someone/network",
        "pytorch_model.bin",
        "abc",
    ) in asked
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match=r"has none of the files model\.safetensors"):
        read_weights("hf-hub:someone/network")


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def _save_sharded(folder: Path, network: Any) -> None:
    """Write a network in two files, and their index."""
    tensors = network.state_dict()
    names = sorted(tensors)
    parts = dict(zip(SHARDS, (names[::2], names[1::2]), strict=True))
    for file, own in parts.items():
        save_file({name: tensors[name].contiguous() for name in own}, folder / file)
    index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_repository_in_several_files_is_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, (network, _) = _cache(tmp_path, "someone/network"), _network()
    _save_sharded(folder, network)
    monkeypatch.setattr(hub, "check_reachable", lambda *_, **__: pytest.fail("a request"))
    weights = read_weights("hf-hub:someone/network").network.tensors
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())


def test_file_that_the_cache_lacks_of_several_is_named(tmp_path: Path) -> None:
    folder, (network, _) = _cache(tmp_path, "someone/network"), _network()
    _save_sharded(folder, network)
    (folder / SHARDS[1]).unlink()
    assert hub.cached_weights("someone/network") is None
    with pytest.raises(UserError, match=rf"init: .* is in the cache .*cache without '{SHARDS[1]}', and http"):
        read_weights("hf-hub:someone/network")


def test_repository_in_several_files_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, _ = _network()
    _save_sharded(tmp_path, network)
    asked = []

    def download(_: str, file: str, *, revision: str | None) -> str:
        asked.append(file)
        if not (tmp_path / file).exists():
            raise EntryNotFoundError(file)
        return str(tmp_path / file)

    monkeypatch.setattr(hub, "check_reachable", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    weights = read_weights("hf-hub:someone/network").network.tensors
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    assert set(SHARDS) < set(asked) and "pytorch_model.bin" not in asked
    (tmp_path / SHARDS[0]).unlink()
    with pytest.raises(UserError, match=rf"init: .* lacks the file '{SHARDS[0]}', which its model.safetensors.index"):
        read_weights("hf-hub:someone/network")


_ERRORS = [
    GatedRepoError("access is restricted", response=SimpleNamespace(headers={}, request=None)),  # type: ignore[arg-type]
    LocalEntryNotFoundError("access is restricted"),
]


@pytest.mark.parametrize("error", _ERRORS)
def test_refusal_of_the_hub_and_a_lost_connection_are_one_message(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(hub, "check_reachable", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=f"could not be downloaded.*{type(error).__name__}: access is restricted"):
        network_of_init("hf-hub:facebook/dinov3")
