"""Text of `--dry-run`: what a run would do and cost, a fact per line, then its warnings."""

from collections.abc import Iterable, Mapping, Sized

_WIDTH = 13


def plan_text(*, warnings: Iterable[str] = (), **facts: str) -> str:
    """Return one line per fact and per warning, with the names in a column."""
    lines = [*facts.items(), *(("warning", text) for text in warnings)]
    return "\n".join(["", *(f"{name.replace('_', ' '):{_WIDTH}} {text}" for name, text in lines)])


def image_counts(train: Sized, held_out: Mapping[str, Sized | None]) -> str:
    """Return the number of images for training and, where there are any, for each other purpose."""
    counted = {"training": train} | {name: part for name, part in held_out.items() if part is not None}
    return ", ".join(f"{len(part)} for {name}" for name, part in counted.items())


def trained_part(*, trained: int, parameters: int, backward_macs: float) -> dict[str, str]:
    """Return the fact that a part of the parameters is trained alone; nothing if all are."""
    if trained == parameters:
        return {}
    backward = f"backward pass {backward_macs / 1e9:.3f} GMACs"
    return {"trained": f"{trained / 1e6:.3f} M of {parameters / 1e6:.3f} M parameters, {backward}"}
