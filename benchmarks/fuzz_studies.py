"""Fuzz study and scale files and the overrides of a study: any of them ends in a study or in one message.

A case is a study of the repository and one of its scales with a few changes: values of every kind in place of others, keys that
are removed, repeated elsewhere or unknown, and text that is not YAML. A study that loads must read back from its own YAML as the
same, and its plan, without the stages' configs, must end in a plan or in one message.
"""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hypothesis import strategies as st

from benchmarks.fuzz_recipes import any_value
from common.errors import UserError
from common.yaml_text import dump_yaml, parse_yaml
from recipes.study import scales
from recipes.study.plan import make_plan
from recipes.study.specification import STUDIES, Study
from recipes.study.study_file import build_study, load_study

MAX_CELLS = 100
"""Most cells of a study that is planned."""
TYPED = (
    "010", "1e3", "on", "off", "~", ".inf", "-.inf", ".nan", "1_000", "0x1F", "12:30", "2024-01-01", "a #b", "*.parquet", "&a [*a]",
    "[&a [*a]]", "!!python/name:os.system x", "!!int x", "? a", "[", "{a", "'", "- a", "{}", "[]", "{a: 1, a: 2}",
    "none", "null", "True",
)  # fmt: skip
"""Values as they are typed."""
SCALARS = (
    "finetune", "pretrain", "digits", "imagenet1k", "seed", "row", "rows", "curve", "layers", "test_top1", "validation_top1@0.25",
    "optim.lr", "optim.lr*", "finetune.optim.lr", "recipes/digits/finetune.yaml", "scaled_relu_table1", "patchify",
    "compute", "steps", "none", "validation_top1", "-1", "\0",
)  # fmt: skip
"""Values of some key of a study or scale."""
KEYS = (
    "needs", "finetune.needs", "optim.lr*", "set", "factors", "starts_from", "levels", "key", "values", "table", "rows", "keys",
    "draws", "seed", "scales", "scale", "seeds", "published", "module", "recipe", "metrics", "metric", "times", "strict", "extends",
    "keep", "match", "tune", "lengths", "seeds", "baselines", "epochs_factor", "saving_at", "higher_is_better", "metric_range", "",
)  # fmt: skip
"""Names of keys, some of them unknown where they stand."""
PLACEHOLDER = "typed value"
OVERRIDES = (
    "data.source",
    "finetune.train.epochs",
    "train.seed",
    "pretrain.published",
    "finetune.needs",
    "optim.lr*",
    "a b",
    "",
    "x.",
)


class Case(NamedTuple):
    """The arguments of `load_study`, and the files it reads."""

    study: bytes
    scale_files: tuple[tuple[str, bytes], ...]
    overrides: tuple[str, ...]
    scale: str | None
    seeds: tuple[int, ...]


@cache
def shipped() -> dict[str, Any]:
    """Return the content of the repository's studies by name."""
    return {path.stem: parse_yaml(path.read_text(encoding="utf-8")) for path in sorted(STUDIES.glob("*.yaml"))}


@cache
def scale_bytes() -> dict[str, bytes]:
    """Return the files of the repository's scales by name."""
    return {name: (scales.SCALES / f"{name}.yaml").read_bytes() for name in scales.scale_names()}


def containers(node: Any) -> Iterator[Any]:
    """Yield every mapping and list in a file that has an entry."""
    if isinstance(node, dict | list) and node:
        yield node
        for inner in node.values() if isinstance(node, dict) else node:
            yield from containers(inner)


@st.composite
def values(draw: st.DrawFn, content: Any) -> Any:
    """Draw a value: of any kind, of some key, or a part of the file."""
    kind = draw(st.sampled_from(["any", "any", "scalar", "scalar", "part", "typed"]))
    if kind == "part":
        return copy.deepcopy(draw(st.sampled_from(list(containers(content)))))
    return draw(any_value() if kind == "any" else st.sampled_from(SCALARS)) if kind != "typed" else PLACEHOLDER


@st.composite
def changed(draw: st.DrawFn, content: Any, most: int) -> bytes:
    """Draw the bytes of a file: its content with a few changes."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.sampled_from([0, 1, 1, most]))):
        node = draw(st.sampled_from(list(containers(content))))
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw(st.sampled_from(keys))
        action = draw(st.sampled_from(["replace"] * 4 + ["remove", "add", "rename"]))
        if action == "replace":
            siblings = st.sampled_from([node[each] for each in keys])
            node[key] = draw(st.one_of(values(content), siblings.map(copy.deepcopy)))
        elif action == "remove":
            del node[key]
        elif isinstance(node, list):
            node.append(draw(values(content)))
        else:
            name = draw(st.one_of(st.sampled_from(KEYS), st.text(max_size=6)))
            node[name] = node.pop(key) if action == "rename" else draw(values(content))
        if not list(containers(content)):
            break
    try:
        text = dump_yaml(content)
    except (yaml.YAMLError, RecursionError, ValueError):
        return b""
    text = text.replace(PLACEHOLDER, draw(st.sampled_from(TYPED)))
    if not draw(st.integers(0, 14)):
        position = draw(st.integers(0, len(text)))
        text = (
            text[:position]
            + draw(st.sampled_from(["\t", ":", "- ", "&a *a", "{", "!!python/x ", "\0", "\n"]))
            + text[position:]
        )
    return text.encode(errors="surrogatepass")


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a study, its scale, the scale's files, overrides and seeds."""
    name = draw(st.sampled_from(sorted(shipped())))
    offered = shipped()[name].get("scales") or [None]
    scale = draw(st.sampled_from(offered * 8 + [None, "smal", ""]))
    study = draw(changed(shipped()[name], 2)) if draw(st.integers(0, 40)) else draw(st.binary(max_size=60))
    files = scale_bytes()
    if scale in files and not draw(st.integers(0, 2)):
        files = files | {scale: draw(changed(parse_yaml(files[scale].decode()), 2))}
    right = st.one_of(st.sampled_from(TYPED + SCALARS), st.text(max_size=6))
    words = [f"{draw(st.sampled_from(OVERRIDES))}={draw(right)}", draw(st.text(max_size=8))]
    overrides = tuple(words[: draw(st.sampled_from([0] * 12 + [1] * 3 + [2]))])
    seeds = draw(st.sampled_from([()] * 8 + [(0,), (3, 3), (-1,), (2**70,)]))
    return Case(study, tuple(files.items()), overrides, scale, seeds)


@contextmanager
def scale_files(folder: Path) -> Iterator[None]:
    """Read the scales in another folder."""
    own, scales.SCALES = scales.SCALES, folder
    try:
        yield
    finally:
        scales.SCALES = own


def check(case: Case) -> bool:
    """Load the study; return whether there is one. Fail unless it loads and reads back as the same, or ends in one message."""
    with tempfile.TemporaryDirectory() as name, scale_files(Path(name)):
        folder = Path(name)
        for scale, content in case.scale_files:
            (folder / f"{scale}.yaml").write_bytes(content)
        path = folder / "study" / "study.yaml"
        path.parent.mkdir()
        path.write_bytes(case.study)
        try:
            study = load_study(path, case.overrides, case.scale, case.seeds)
        except UserError as error:
            assert 0 < len(str(error)) < 100_000 and "Traceback" not in str(error)
            return False
        _check_study(study, path)
        return True


def _check_study(study: Study, path: Path) -> None:
    """Fail unless a study reads back from its YAML, and its plan ends in a plan or in one message."""
    again = build_study(parse_yaml(dump_yaml(dict(study.mapping))), study.source, path.parent)
    for part in ("name", "question", "stages", "axes", "report", "scale", "mapping"):
        assert repr(getattr(again, part)) == repr(getattr(study, part)), part
    if prod(len(axis.levels) for axis in study.axes) <= MAX_CELLS:
        try:
            make_plan(study, lambda module, recipe, words: {"recipe": recipe.name, "words": words})
        except UserError as error:
            assert str(error)
