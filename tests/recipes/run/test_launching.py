"""Launching: a study runs whatever accelerate's configuration file says, or ends in one message before its first run."""

from pathlib import Path

import pytest
import yaml

from common.errors import UserError
from common.training.launch_environment import default_config_file
from recipes.run.launching import PLAIN_CONFIG, SINGLE_PROCESS, launch_arguments


def environment_with(home: Path, content: str) -> dict[str, str]:
    environment = {"HF_HOME": str(home)}
    path = Path(default_config_file(environment))
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return environment


@pytest.mark.parametrize("kind", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "MULTI_GPU", "["])
def test_configuration_file_that_distributes_is_replaced(tmp_path: Path, kind: str) -> None:
    environment = environment_with(tmp_path, f"distributed_type: {kind}\n")
    assert launch_arguments(SINGLE_PROCESS, environment) == (*SINGLE_PROCESS, f"--config_file={PLAIN_CONFIG}")


def test_replaced_configuration_keeps_to_the_cpu(tmp_path: Path) -> None:
    environment = environment_with(tmp_path, "distributed_type: FSDP\nuse_cpu: true\n")
    assert launch_arguments(SINGLE_PROCESS, environment)[-1] == "--cpu"


@pytest.mark.parametrize(
    "content", ["distributed_type: 'NO'\nuse_cpu: true\n", "distributed_type: NO\n", "debug: false\n"]
)
def test_configuration_file_of_one_process_is_used(tmp_path: Path, content: str) -> None:
    assert launch_arguments(SINGLE_PROCESS, environment_with(tmp_path, content)) == SINGLE_PROCESS


def test_plain_configuration_is_one_of_accelerate() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(PLAIN_CONFIG)).distributed_type.value == "NO"
    assert yaml.safe_load(PLAIN_CONFIG.read_text())["num_processes"] == 1


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NVIDIA_TF32_OVERRIDE": "1"}, "NVIDIA_TF32_OVERRIDE"),
        ({"ACCELERATE_USE_FSDP": "true"}, "ACCELERATE_USE_FSDP"),
        ({"RANK": "1"}, "RANK = '1'"),
    ],
)
def test_variable_that_would_end_each_run_ends_the_study(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        launch_arguments(SINGLE_PROCESS, {"HF_HOME": str(tmp_path), **variables})


def test_arguments_of_the_user_are_checked(tmp_path: Path) -> None:
    environment = environment_with(tmp_path, "distributed_type: FSDP\n")
    with pytest.raises(UserError, match="distributed_type: FSDP"):
        launch_arguments(("--num_processes=2",), environment)
    own = ("--multi_gpu", "--num_processes=2")
    assert launch_arguments(own, environment) == own
