"""Training: the loop, optimizers, schedules, checkpoints, statuses, progress."""
