"""Where the runs of a study go: runner, states, engines, the cache of runs."""
