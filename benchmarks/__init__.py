"""Benchmarks of the hot paths, each compared with a reference implementation in the same run; `python -m benchmarks --help`.

Each benchmark is a module with a function `run`. They share:

- `timing` (interleaved variants, tables) and `isolated` (each variant in a process of its own, complete loops step by step);
- `synthetic_images` and `synthetic_datasets`: the images and the datasets that are measured on;
- the reference implementations: `reference_views` (PIL and timm), `reference_parts`, and the loops `reference_dino`,
  `reference_deit` and `lightly_dino`;
- `our_loops`: the actual trainers, stopped after a number of steps.

`parity` (does speed cost accuracy?), `fuzz` and `kills` are separate programs.
"""
