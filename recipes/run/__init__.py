"""Execution of a study's runs: runner, states, engines, and the cache of runs."""
