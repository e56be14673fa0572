"""Environment variables of a run's processes, whatever the engine."""

import os
from pathlib import Path

from common.cores import SHARE

OPENMP_WAIT_VARIABLES = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
"""Environment variables that set how OpenMP threads wait."""
_REPOSITORY = Path(__file__).resolve().parents[2]


def run_environment(threads: int) -> dict[str, str]:
    """Return the environment variables of a run's processes, each with a number of threads.

    OpenMP threads wait passively unless the user has set how they wait. Their default is to spin, and then a thread whose core is
    busy (with a data loader worker or another program) delays all others: short steps took 6 to 15 times as long.
    """
    path = os.pathsep.join(part for part in (str(_REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
    variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "PYTHONPATH": path}
    variables[SHARE] = str(threads)
    variables["PYTHONUNBUFFERED"] = "1"
    variables["PYTHONSAFEPATH"] = "1"  # a folder `common` or `recipes` in the working directory is not ours
    if not OPENMP_WAIT_VARIABLES & os.environ.keys():
        variables["OMP_WAIT_POLICY"] = "passive"
    return variables
