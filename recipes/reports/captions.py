"""Fixed text common to both kinds of report: the caption of the cost figure, and the filling of placeholders."""

COST_CAPTION = """Seconds per run: the run itself (filled), its amortized fraction of the earlier stages (hatched), and
        the remainder of the earlier stages, incurred only by a run that shares them with no other (dotted outline)."""


def fill(text: str, **words: object) -> str:
    """Return a caption or note with its placeholders filled in, on one line, with its first letter capitalized."""
    filled = " ".join(text.split()).format(**words)
    return filled[:1].upper() + filled[1:]
