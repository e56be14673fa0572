"""Owns where images come from and how they reach a network: sources, subsets, sampling, views."""
