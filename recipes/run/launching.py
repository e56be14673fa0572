"""How the runs of a study are launched, whatever the environment and accelerate's configuration file ask for."""

import os
from collections.abc import MutableMapping
from pathlib import Path

import common.training
from common.errors import UserError
from common.ranks import leave_launch
from common.training.launch_environment import check_environment, check_launch, read_default_config

SINGLE_PROCESS = ("--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")
"""Default arguments of `accelerate launch`; the key `train.precision` sets the precision."""
PLAIN_CONFIG = Path(common.training.__file__).with_name("accelerate.yaml")
"""A configuration file of accelerate for one process."""


def launch_arguments(
    arguments: tuple[str, ...] = SINGLE_PROCESS, environment: MutableMapping[str, str] = os.environ
) -> tuple[str, ...]:
    """Return the arguments of `accelerate launch` for each run of a study, from those that the user gave.

    By default each run is one process: then a configuration file that asks for several, or for a way to distribute the network, is
    replaced by `PLAIN_CONFIG`. Raise UserError for what would end each run, before the first one starts.
    """
    leave_launch(environment)
    check_environment(environment)
    if arguments != SINGLE_PROCESS:
        check_launch(arguments, environment)
        return arguments
    try:
        settings = read_default_config(environment)
    except UserError:
        settings = {"distributed_type": "damaged"}
    if settings.get("distributed_type", "NO") in ("NO", False):  # False: NO without quotes, in YAML
        return arguments
    on_cpu = ("--cpu",) if settings.get("use_cpu") is True else ()
    return (*arguments, f"--config_file={PLAIN_CONFIG}", *on_cpu)
