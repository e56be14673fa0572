"""The processes of a run on one of its several nodes: `srun python -m recipes.run.slurm.node <arguments of common.launch>`.

srun kills the other nodes' processes as soon as one node ends with an exit code other than 0. A run that was interrupted and saved
is no such failure: it ends with 0 here, and its result.json says that it is to be resumed.
"""

import os
import sys

from common.launch import main as launch
from common.surroundings import INTERRUPTED
from common.training.signals import end_before_run
from recipes.run.slurm.job import MAIN_PROCESS


def main(arguments: list[str]) -> int:
    """Launch this node's processes and wait for them; return the exit code."""
    host, _, port = os.environ[MAIN_PROCESS].rpartition(":")
    rank = os.environ["SLURM_NODEID"]
    code = launch([f"--machine_rank={rank}", f"--main_process_ip={host}", f"--main_process_port={port}", *arguments])
    return 0 if code == INTERRUPTED else code


if __name__ == "__main__":
    end_before_run()
    sys.exit(main(sys.argv[1:]))
