"""Two gloo processes must compute the same as one process with the global batch."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from common.models.sync_batchnorm import CPUSyncBatchNorm, synchronize_batch_norm

CASES: dict[str, tuple[int, dict[str, Any]]] = {  # number of images of the first process, arguments of the network
    "even": (3, {}),
    "uneven, cumulative statistics": (2, {"momentum": None}),
    "activation inside": (2, {"kind": BatchNormAct2d}),
    "tokens": (2, {"kind": nn.BatchNorm1d}),
}


def _network(momentum: float | None = 0.1, kind: type[nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    torch.manual_seed(0)
    norm: Any = kind(4, momentum=momentum)
    nn.init.uniform_(norm.weight)
    if kind is nn.BatchNorm1d:
        return nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 1, bias=False), norm, nn.ReLU(), nn.Conv1d(4, 2, 1))
    activation = nn.Identity() if kind is BatchNormAct2d else nn.ReLU()
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), norm, activation, nn.Conv2d(4, 2, 1))


def _batch() -> Tensor:
    return torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(1)) * 3 + 7


def _train(network: nn.Module, batch: Tensor) -> dict[str, Any]:
    """Run twice, so that the running statistics are updated twice; differentiate the sum of cubes of the second outputs."""
    network(batch)
    batch = batch.clone().requires_grad_()
    outputs = network(batch)
    outputs.pow(3).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.eval()
    return {
        "outputs": outputs.detach(),
        "inputs": batch.grad,
        "gradients": gradients,
        "state": state,
        "evaluation": network(batch).detach(),
    }


def _run_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    results = {}
    for case, (split, options) in CASES.items():
        shard = _batch()[:split] if rank == 0 else _batch()[split:]
        results[case] = _train(synchronize_batch_norm(_network(**options), device_type="cpu"), shard)
        for gradient in results[case]["gradients"]:
            distributed.all_reduce(gradient)
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the results of each of two processes, by case."""
    folder: Path = tmp_path_factory.mktemp("gloo")
    multiprocessing.start_processes(_run_process, args=(str(folder),), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("case", list(CASES))
def test_two_processes_compute_the_same_as_one(two_processes: list[dict[str, Any]], case: str) -> None:
    expected = _train(_network(**CASES[case][1]), _batch())
    ranks = [process[case] for process in two_processes]
    for name in ("outputs", "inputs", "evaluation"):
        joined = torch.cat([rank[name] for rank in ranks])
        torch.testing.assert_close(
            joined, expected[name], rtol=1e-5, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )
    for gradient, reference in zip(ranks[0]["gradients"], expected["gradients"], strict=True):
        torch.testing.assert_close(gradient, reference, rtol=1e-5, atol=1e-3)
    for rank in ranks:
        assert list(rank["state"]) == list(expected["state"])
        for name, reference in expected["state"].items():
            torch.testing.assert_close(rank["state"][name], reference, rtol=1e-5, atol=1e-6)


def test_without_a_process_group_it_equals_batch_norm() -> None:
    plain, batch = _network(), _batch()
    synchronized = synchronize_batch_norm(copy.deepcopy(plain), device_type="cpu")
    assert torch.equal(synchronized(batch), plain(batch))
    assert torch.equal(synchronized.eval()(batch), plain.eval()(batch))
    assert all(
        torch.equal(a, b) for a, b in zip(synchronized.state_dict().values(), plain.state_dict().values(), strict=True)
    )


def test_conversion_keeps_names_parameters_and_mode() -> None:
    network = _network().eval()
    names, weight, mean = list(network.state_dict()), network[1].weight, network[1].running_mean
    synchronized = synchronize_batch_norm(network, device_type="cpu")
    assert isinstance(synchronized[1], CPUSyncBatchNorm) and not synchronized[1].training
    assert (
        list(synchronized.state_dict()) == names
        and synchronized[1].weight is weight
        and synchronized[1].running_mean is mean
    )
    assert synchronize_batch_norm(synchronized, device_type="cpu")[1] is synchronized[1]


def test_activation_inside_a_norm_is_kept() -> None:
    for device_type in ("cpu", "cuda"):
        network, batch = _network(kind=BatchNormAct2d).eval(), _batch()
        expected, norm = network(batch), network[1]
        synchronized = synchronize_batch_norm(network, device_type=device_type)
        assert synchronized[1] is not norm and torch.equal(synchronized(batch), expected)


def test_on_gpus_pytorchs_sync_batch_norm_is_used() -> None:
    assert isinstance(synchronize_batch_norm(_network(), device_type="cuda")[1], nn.SyncBatchNorm)
