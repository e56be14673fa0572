"""Roles of splits, hold-outs, nested label subsets, verification, the fingerprint of a run's data."""
