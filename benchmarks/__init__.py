"""How fast the hot paths are, each against the plain way in the same run; `python -m benchmarks --help` lists them.

One module a benchmark, with a function `run`. They share:

- `timing` (variants in turn, tables) and `isolated` (each variant a process of its own, whole loops step by step);
- `pictures` and `indexes`: the images and the index tables that are measured on, all synthetic;
- the plain references: `plain_views` (PIL and timm), `plain_parts`, and the loops `plain_dino`, `plain_deit`, `lightly_dino`;
- `our_loops`: the real trainers, stopped after so many steps.

`parity` (is accuracy paid for speed?), `fuzz` and `kills` are programs of their own.
"""
