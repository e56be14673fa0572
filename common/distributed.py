"""The process group of torch.distributed, which exists only in a launch of several processes."""

import torch.distributed


def world_size() -> int:
    """Return the number of processes of the default process group; 1 without a process group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size()
    return 1
