"""Splits: roles, hold-outs, nested label subsets, verification and caching, data fingerprint."""
