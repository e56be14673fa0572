"""Two and four gloo processes must compute the same as one process with the global batch, compiled networks, too."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
import torch.multiprocessing as multiprocessing
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from common.models.sync_batchnorm import AllReduceBatchNorm, synchronize_batch_norm

NUM_IMAGES = 12
CASES: dict[
    str, tuple[list[int], dict[str, Any]]
] = {  # weights of the processes' numbers of images, arguments of the network
    "even": ([1, 1, 1, 1], {}),
    "uneven, cumulative statistics": ([1, 3, 1, 1], {"momentum": None}),
    "activation inside": ([1, 2, 1, 2], {"kind": BatchNormAct2d}),
    "tokens": ([1, 2, 1, 2], {"kind": nn.BatchNorm1d}),
    "compiled": ([1, 2, 1, 2], {}),
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
    return torch.randn(NUM_IMAGES, 3, 5, 5, generator=torch.Generator().manual_seed(1)) * 3 + 7


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


def _shard(case: str, rank: int, world: int) -> Tensor:
    """Return the images of a process: consecutive ones, in the proportions of the case."""
    weights = CASES[case][0][:world]
    bounds = [0, *(round(NUM_IMAGES * sum(weights[: number + 1]) / sum(weights)) for number in range(world))]
    return _batch()[bounds[rank] : bounds[rank + 1]]


def _run_process(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=world)
    results = {}
    for case, (_, options) in CASES.items():
        network = synchronize_batch_norm(_network(**options), device_type="cpu")
        if case == "compiled":
            network.compile(fullgraph=True, dynamic=False, backend="aot_eager")
        results[case] = _train(network, _shard(case, rank, world))
        for gradient in results[case]["gradients"]:
            distributed.all_reduce(gradient)
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 4])
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the results of each of several processes, by case."""
    folder: Path = tmp_path_factory.mktemp("gloo")
    world: int = request.param
    multiprocessing.start_processes(_run_process, args=(world, str(folder)), nprocs=world, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.mark.parametrize("case", list(CASES))
def test_several_processes_compute_the_same_as_one(processes: list[dict[str, Any]], case: str) -> None:
    expected = _train(_network(**CASES[case][1]), _batch())
    ranks = [process[case] for process in processes]
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
    assert isinstance(synchronized[1], AllReduceBatchNorm) and not synchronized[1].training
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


def test_on_gpus_pytorchs_sync_batch_norm_is_used_unless_the_network_is_compiled() -> None:
    assert isinstance(synchronize_batch_norm(_network(), device_type="cuda")[1], nn.SyncBatchNorm)
    compiled = synchronize_batch_norm(_network(), device_type="cuda", compiled=True)
    assert isinstance(compiled[1], AllReduceBatchNorm)
