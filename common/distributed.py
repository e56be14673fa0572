"""The process group of torch.distributed, which exists only in a launch of several processes."""

import torch.distributed


def world_size() -> int:
    """Return the number of processes of the default process group; 1 without a process group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1


def leave_process_group() -> None:
    """Destroy the process group, if there is one, at the end of a run in which no process failed.

    Without it, threads of gloo that are still alive when the interpreter exits can abort the process (exit code -6) although
    the run has ended and its result is written.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
