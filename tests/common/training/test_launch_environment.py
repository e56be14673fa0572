"""The environment and accelerate's configuration file change nothing behind the recipe: overridden, or refused by name."""

import logging
from pathlib import Path

import pytest
import torch

from common.errors import ProcessError, UserError
from common.training.accelerator import build_accelerator
from common.training.launch_environment import (
    ANY_RUN,
    COMPILED_RUN,
    DISTRIBUTED,
    check_environment,
    check_launch,
    default_config_file,
)


def write_config(home: Path, content: str) -> dict[str, str]:
    """Write accelerate's default configuration file; return the environment that points to it."""
    environment = {"HF_HOME": str(home)}
    path = Path(default_config_file(environment))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return environment


@pytest.mark.parametrize("name", [*ANY_RUN, *DISTRIBUTED])
def test_variable_that_changes_numbers_is_refused_by_name(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} = 'true'.*unset {name}"):
        check_environment({name: "true", "HF_HOME": "none"})
    check_environment({name: ""})


@pytest.mark.parametrize("name", COMPILED_RUN)
def test_variable_of_the_compiler_is_refused_if_the_run_is_compiled(name: str) -> None:
    check_environment({name: "1"})
    with pytest.raises(UserError, match=f"{name} = '1'.*train.compile=false.*unset {name}"):
        check_environment({name: "1"}, compiled=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATE_USE_FSDP", "false"),
        ("ACCELERATE_DOWNCAST_BF16", "no"),
        ("TIMM_FUSED_ATTN", "1"),
        ("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT"),
        ("TORCH_COMPILE_DISABLE", "0"),
        ("ACCELERATE_USE_CPU", "True"),
    ],
)
def test_value_that_changes_nothing_is_accepted(name: str, value: str) -> None:
    check_environment({name: value}, compiled=True)


def test_tf32_is_refused_whether_allowed_or_forbidden() -> None:
    with pytest.raises(UserError, match="train.precision sets the precision"):
        check_environment({"NVIDIA_TF32_OVERRIDE": "0"})


@pytest.mark.parametrize("value", ["", "maybe"])
def test_flag_that_accelerate_cannot_read_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=f"ACCELERATE_USE_CPU = '{value}': must be true or false"):
        check_environment({"ACCELERATE_USE_CPU": value})


def test_all_variables_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        check_environment({"ACCELERATE_USE_DEEPSPEED": "true", "NVIDIA_TF32_OVERRIDE": "1", "HF_HOME": "none"})
    assert len(str(caught.value).splitlines()) == 2


def test_setting_of_the_configuration_file_is_named(tmp_path: Path) -> None:
    environment = write_config(tmp_path, "distributed_type: FSDP\n")
    with pytest.raises(UserError) as caught:
        check_environment(environment | {"ACCELERATE_USE_FSDP": "true"})
    assert f"`distributed_type: FSDP` of {default_config_file(environment)}" in str(caught.value)
    with pytest.raises(UserError, match=r"default_config.yaml: distributed_type: FSDP: no stage can use it"):
        check_launch(("--num_processes=2",), environment)
    check_launch(("--multi_gpu", "--num_processes=2"), environment)  # accelerate then ignores the type
    check_launch(("--cpu",), environment)  # and the file


def test_named_configuration_file_counts(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("distributed_type: DEEPSPEED\n")
    with pytest.raises(UserError, match=r"own.yaml: distributed_type: DEEPSPEED"):
        check_launch(("--config_file", str(tmp_path / "own.yaml"), "--cpu"), {"HF_HOME": str(tmp_path)})


@pytest.mark.parametrize("content", ["distributed_type: [", "- a\n- b\n", "\xff"])
def test_damaged_configuration_file_is_named(tmp_path: Path, content: str) -> None:
    environment = write_config(tmp_path, "")
    Path(default_config_file(environment)).write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"default_config.yaml: accelerate cannot read"):
        check_launch((), environment)


@pytest.mark.parametrize("flag", ["--use_fsdp", "--use-fsdp", "--use_deepspeed=true", "--tpu"])
def test_option_that_no_stage_can_use_is_named(flag: str) -> None:
    with pytest.raises(UserError, match="no stage can use it: the stages train one replica"):
        check_launch((flag,), {"HF_HOME": "none"})


def test_launch_without_a_configuration_file_is_accepted(tmp_path: Path) -> None:
    check_launch((), {"HF_HOME": "/" + "x" * 300})  # cannot be looked up
    check_launch(("--multi_gpu", "--num_processes", "2"), {"HF_HOME": str(tmp_path)})
    check_launch((), write_config(tmp_path, "distributed_type: 'NO'\nmixed_precision: fp8\n"))


def test_accelerator_takes_nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "8")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_FULLGRAPH", "maybe")
    monkeypatch.setattr(logging.root, "level", logging.INFO)
    torch.set_float32_matmul_precision("high")
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    accelerator = build_accelerator("fp32")
    assert accelerator.gradient_accumulation_steps == 1
    assert accelerator.mixed_precision == "no"
    assert accelerator.state.dynamo_plugin.backend.value == "NO"
    assert torch.get_float32_matmul_precision() == "highest"
    assert logging.root.level == logging.INFO


def test_variables_that_accelerate_refuses_end_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of processes from MPI without the address of the first one."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    for name, value in {"ACCELERATE_USE_CPU": "true", "PMI_SIZE": "4", "PMI_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # accelerate sets them: restored after the test
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match="accelerate cannot set up this process.*MASTER_ADDR"):
        build_accelerator("fp32")
    AcceleratorState._reset_state(True)


def test_errors_of_this_project_are_not_taken_for_those_of_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "99999"}
    for name, value in {**variables, "ACCELERATE_USE_CPU": "true"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ProcessError, match="^MASTER_PORT = 99999: must be a number"):
        build_accelerator("fp32")


@pytest.mark.parametrize("slurm", [False, True])
def test_a_process_without_a_gpu_of_its_own_is_one_error(monkeypatch: pytest.MonkeyPatch, slurm: bool) -> None:
    """accelerate takes the device modulo their number, but its barriers and DDP the number itself: "invalid device ordinal"."""
    variables = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"} | ({"SLURM_PROCID": "1"} if slurm else {})
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ProcessError, match="^LOCAL_RANK = 1: this process sees 1 GPU, .* as many processes") as caught:
        build_accelerator("fp32")
    assert ("--gpus-per-task" in str(caught.value)) is slurm


def test_more_threads_than_cores_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("common.training.accelerator.available_cores", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("the environment tells the number"))
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    build_accelerator("fp32")
    assert "16 threads on 2 cores" in caplog.text and "OMP_NUM_THREADS=2" in caplog.text


def test_a_run_uses_the_cores_of_a_quota_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found: list[int] = []
    monkeypatch.setattr("common.training.accelerator.available_cores", lambda: 2)
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.delenv("OMP_NUM_THREADS")
    for threads in (16, 2, 1):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        build_accelerator("fp32")
    assert found == [2] and not caplog.text
