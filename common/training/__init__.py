"""How a run is driven: optimizers, schedules, state on disk, verdicts, progress."""
