"""Fuzz recipes and overrides: with --dry-run, any user input ends in a plan or in one message.

A case is a stage, the texts of a recipe and of the one it extends, and the command line's overrides. Recipes consist of existing
keys with values of every kind, of unknown keys, and of text that is not YAML.
"""

import contextlib
import io
import tempfile
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from hypothesis import strategies as st

from common.config_help import all_fields
from common.evaluation.__main__ import main as evaluate
from common.evaluation.config import ProbeConfig
from common.models.networks import ARCHITECTURES
from common.models.stem_registry import ALIASES, PAPER_STEMS
from finetune.__main__ import main as finetune
from finetune.config import FinetuneConfig
from pretrain.__main__ import main as pretrain
from pretrain.config import PretrainConfig

STAGES: dict[str, tuple[type[Any], Callable[[list[str]], int]]] = {
    "pretrain": (PretrainConfig, pretrain),
    "finetune": (FinetuneConfig, finetune),
    "probe": (ProbeConfig, lambda arguments: evaluate(["probe", *arguments])),
}
BASE = Path(__file__).resolve().parents[1] / "recipes" / "digits"
TEXTS = (
    "", " ", "none", "null", "~", "nan", "inf", "-1", "true", "..", "/", "/dev/null", "9" * 5000, "x" * 5000, "ä/ß", "\U0001f600",
    "${out}", "${oops}", "???", "a:b", "[", "{", "'", "\\", "%s", "{0}", "\x07", "\u2028", "digits", "owner/name*",
)  # fmt: skip
NUMBERS = (
    0, 1, 2, 3, 4, 7, 12, 16, 32, -1, 0.0, 0.5, -0.5, 1.0, 1e-300, 1e308, float("nan"), float("inf"), -float("inf"),
    2**31, 2**63, 2**64, 10**18, 10**30, -(2**63), 10**400,
)  # fmt: skip
# Keys restricted to values that neither download from the hub nor take minutes.
RESTRICTED = {"data.source": ("digits", "no/such/folder"), "data.revision": (None,), "data.config_name": (None,),
        "model.name": ("vit_mini", "vit_micro", "vit_c_1gf", "vit_giant")}  # fmt: skip


class Case(NamedTuple):
    """One command line and the files it reads."""

    stage: str
    recipe: bytes
    parent: bytes
    overrides: tuple[str, ...]


def keys(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """Yield every dotted key of a config class with its type."""
    yield from ((key, field.annotation) for key, field in all_fields(cls))


def any_value() -> st.SearchStrategy[Any]:
    """Return the strategy of values of any type, valid for no particular key."""
    leaf = st.one_of(
        st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.text(max_size=8), st.dates()
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.one_of(st.text(max_size=4), st.integers()), inner, max_size=3),
        ),
        max_leaves=6,
    )


def typed_value(hint: Any) -> st.SearchStrategy[Any]:
    """Return the strategy of values of a key's type, including absurd ones."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return typed_value(arguments[0])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        length = (0, 4) if arguments[-1] is Ellipsis else (len(arguments), len(arguments))
        return st.lists(typed_value(arguments[0]), min_size=length[0], max_size=length[1])
    if arguments:
        return st.one_of(*(typed_value(argument) for argument in arguments))
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        int: st.one_of(st.sampled_from([n for n in NUMBERS if isinstance(n, int)]), st.integers(-2, 40)),
        float: st.one_of(st.sampled_from(NUMBERS), st.floats(0, 1), st.floats()),
        bool: st.booleans(),
        str: st.one_of(
            st.sampled_from(TEXTS), st.sampled_from([*ARCHITECTURES, *PAPER_STEMS, *ALIASES, "rand-m9", "3a", "v0"])
        ),
    }
    return kinds.get(hint, st.none())


@st.composite
def settings_of(draw: st.DrawFn, stage: str) -> tuple[str, Any]:
    """Draw a key and its value: usually an existing key, usually a value of its type."""
    existing = dict(keys(STAGES[stage][0]))
    key = draw(st.sampled_from(sorted(existing)))
    kind = draw(st.sampled_from(["typed"] * 12 + ["untyped"] * 3 + ["unknown", "deeper", "section"]))
    if kind in ("typed", "untyped") and key in RESTRICTED:
        return key, draw(st.sampled_from(RESTRICTED[key]))
    if kind == "typed":
        return key, draw(typed_value(existing[key]))
    if kind == "untyped":
        return key, draw(any_value())
    unknown = {"unknown": draw(st.text(max_size=6)), "deeper": f"{key}.more", "section": key.partition(".")[0]}
    return unknown[kind], draw(any_value())


def nest(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """Return dotted keys as nested mappings; a key below another key's value replaces that value."""
    tree: dict[Any, Any] = {}
    for key, value in pairs:
        *parents, last = key.split(".")
        node = tree
        for name in parents:
            if not isinstance(node.get(name), dict):
                node[name] = {}
            node = node[name]
        node[last] = value
    return tree


@st.composite
def texts(draw: st.DrawFn, stage: str, extends: str | None) -> bytes:
    """Draw the bytes of a recipe."""
    tree = nest(draw(st.lists(settings_of(stage), max_size=3)))
    if extends is not None:
        tree["extends"] = extends
    with contextlib.suppress(yaml.YAMLError):
        text = yaml.safe_dump(tree, allow_unicode=draw(st.booleans()))
        if not draw(st.integers(0, 14)):
            position, noise = (
                draw(st.integers(0, len(text))),
                draw(st.sampled_from(["\t", ":", "- ", "&a *a", "{", "!!python/x ", "\0"])),
            )
            text = text[:position] + noise + text[position:]
        return text.encode(errors="surrogatepass")
    return b""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a complete case; most recipes extend the digits' recipe, some each other or themselves."""
    stage = draw(st.sampled_from(sorted(STAGES)))
    base = str(BASE / f"{stage}.yaml")
    extends = [base] * 10 + ["parent.yaml"] * 3 + ["recipe.yaml", "missing.yaml", "..", "\0", "", "x" * 300]
    recipe = draw(texts(stage, draw(st.sampled_from(extends))))
    parent = draw(texts(stage, draw(st.sampled_from([base] * 6 + ["recipe.yaml", "parent.yaml", None]))))
    if not draw(st.integers(0, 30)):
        recipe = draw(st.binary(max_size=60))
    pairs = draw(st.lists(settings_of(stage), max_size=2))
    overrides = tuple(f"{key}={_word(value)}" for key, value in pairs)
    if not draw(st.integers(0, 14)):
        overrides += (
            draw(
                st.one_of(
                    st.text(max_size=12),
                    st.sampled_from(["=", "a==", "a.=1", ".a=1", "=1", "a[0]=1", "a={", "optim=1"]),
                )
            ),
        )
    return Case(stage, recipe, parent, overrides)


def _word(value: Any) -> str:
    """Return a value as written on the command line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()


def check(case: Case) -> bool:
    """Run the case with `--dry-run`; return whether there is a plan. Fail unless it ends so, or in one message and exit code 2."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_bytes(case.recipe)
        (folder / "parent.yaml").write_bytes(case.parent)
        arguments = ["--dry-run", "--", str(folder / "recipe.yaml"), f"out={folder / 'run'}", *case.overrides]
        code, stderr = run_quietly(STAGES[case.stage][1], arguments)
        assert code == 0 or (code == 2 and stderr.startswith("error: ")), f"exit code {code}: {stderr}"
        return code == 0


def run_quietly(main: Callable[[list[str]], int], arguments: list[str]) -> tuple[int, str]:
    """Return a stage's exit code and its stderr, from the error on if an argument that looks like an option ends in a usage."""
    stderr = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(stderr), np.errstate(all="ignore"):
        try:
            code = main(arguments)
        except SystemExit as exit_error:
            return int(exit_error.code or 0), stderr.getvalue()[stderr.getvalue().find("error: ") :]
    return code, stderr.getvalue()
