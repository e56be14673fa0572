"""The content of a checkpoint: the names that earlier checkpoints have, and everything a run resumes from."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import last_weights
from torch import nn

from common.checkpoint_files import Checkpoint
from common.tensor_files import read_tensors, write_tensors
from common.training.config import TrainConfig
from common.training.state import Stateful, TrainingState, load_optimizer_state, optimizer_state

Stage = Callable[..., int]


class Count:
    """A part whose state is one number."""

    def __init__(self, value: int) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.value = state["value"]


def build(seed: int, scaler: Any = None) -> TrainingState:
    """Return the state of two small networks after a step and of other parts; the seed determines all of it."""
    torch.manual_seed(seed)
    networks = {"network": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), "average": nn.Linear(3, 2)}
    optimizer = torch.optim.AdamW(networks["network"].parameters(), lr=0.1)
    networks["network"](torch.randn(4, 3)).square().sum().backward()
    optimizer.step()
    config = TrainConfig()
    run = SimpleNamespace(accelerator=SimpleNamespace(scaler=scaler), folder=Path("run"), stage="stage", config=config)
    parts: dict[str, Stateful] = {
        name: Count(seed + place) for place, name in enumerate(("monitor", "watch", "errors"))
    }
    return TrainingState(run, config, networks, optimizer, parts)  # type: ignore[arg-type]


def test_nothing_that_is_restored_shares_memory_with_the_checkpoint(tmp_path: Path) -> None:
    """The tensors of a checkpoint are mapped from its file, which could not be freed while they are in use."""
    tensors, values = build(1).take()
    write_tensors(tensors, tmp_path / "state.safetensors")
    mapped, restored = read_tensors(tmp_path / "state.safetensors"), build(2)
    restored.load(Checkpoint(1, mapped, values))
    shared = {tensor.untyped_storage().data_ptr() for tensor in mapped.values()}
    kept, _ = restored.take()
    assert [name for name, tensor in kept.items() if tensor.untyped_storage().data_ptr() in shared] == []


@pytest.mark.parametrize("shapes", [[(3,), (2, 3)], [(2, 3)]], ids=["other order", "fewer parameters"])
def test_moments_of_other_parameters_are_not_taken(shapes: list[tuple[int, ...]]) -> None:
    """They are identified by their position, which another version of timm or PyTorch may change."""
    optimizers = []
    for sizes in ([(2, 3), (3,)], shapes):
        parameters = [nn.Parameter(torch.ones(size)) for size in sizes]
        optimizers.append(torch.optim.AdamW(parameters))
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizers[-1].step()
    before = optimizer_state(optimizers[1])
    with pytest.raises(ValueError, match=r"optimizer\.[01]\.exp_avg.*of the shape"):
        load_optimizer_state(optimizers[1], optimizer_state(optimizers[0]))
    after = optimizer_state(optimizers[1])
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_everything_is_restored_from_json_and_tensors() -> None:
    taken, other = build(1, torch.amp.GradScaler("cpu", init_scale=8.0)), build(2, torch.amp.GradScaler("cpu"))
    tensors, values = taken.take()
    other.load(
        Checkpoint(1, {name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(values)))
    )
    found, numbers = other.take()
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert numbers == values and values["scaler"]["scale"] == 8.0
    assert [values[name]["value"] for name in ("monitor", "watch", "errors")] == [1, 2, 3]


def test_a_network_that_lacks_a_tensor_is_refused() -> None:
    state = build(1)
    tensors, values = state.take()
    del tensors["average.bias"]
    with pytest.raises(RuntimeError, match="bias"):
        state.load(Checkpoint(1, tensors, values))


@pytest.mark.parametrize(
    ("name", "overrides", "networks"),
    [
        ("pretrain", (), {"dino"}),
        ("finetune", ("ema_decay=0.9",), {"network", "average"}),
        ("finetune", ("ema_span=0.5",), {"network", "average"}),
        ("finetune", (), {"network"}),
        ("linear", (), {"classifier"}),
    ],
)
def test_a_checkpoint_holds_the_names_that_earlier_ones_hold(
    stage: Stage, tmp_path: Path, name: str, overrides: tuple[str, ...], networks: set[str]
) -> None:
    """Renaming an entry would make earlier runs impossible to resume."""
    assert stage(name, tmp_path / "run", "train.epochs=1", *overrides) == 0
    assert {key.partition(".")[0] for key in last_weights(tmp_path / "run")} == networks | {"optimizer"}
    moments = {key.split(".")[2] for key in last_weights(tmp_path / "run") if key.startswith("optimizer.")}
    assert moments == ({"momentum_buffer"} if name == "linear" else {"step", "exp_avg", "exp_avg_sq"})
    (path,) = (tmp_path / "run" / "checkpoints").glob("step-*/state.json")
    described = json.loads(path.read_text())
    assert described.keys() == {"format", "step", "values"} and described["format"] == 2
    values = described["values"]
    own = {"seconds", "device_seconds", "rewinds", "numerics"}
    assert values.keys() == {"monitor", "watch", "errors", "scaler"} | own
    assert values["watch"].keys() == {"detector", "read"} and values["errors"].keys() == {
        "replaced",
        "indices",
        "listed",
    }
    of_monitor = {"latest", "untrained", "best", "means", "log", "epoch", "epochs_below_start"}
    assert values["monitor"].keys() == (of_monitor if name == "pretrain" else {"metrics", "best", "sums", "steps"})
