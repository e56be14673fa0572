"""Owns the standing text of a report: what each figure shows, and how its numbers are to be read."""

CAPTIONS = {
    "accuracy": """{metric_name} over {over_name}. Lines join the means, bars are Student's 95% intervals, small dots
        are the single {repeats}s.""",
    "differences": """{other} minus {base}, paired by {repeats}: large dots are means, bars are Student's 95% intervals,
        small dots the single pairs. A bar that crosses the line at zero tells nothing apart.""",
    "labels": """How many labels {base} needs to be as good as {other}: from each share of {other} to the equal one
        of {base}. The broad bar is the 95% interval; a triangle leaves the range that was measured.""",
    "effects": """The compared effects side by side, averaged and at each {over_name}; bars are Student's 95%
        intervals.""",
    "learning": """How {stage} went: a thin line for each run, a thick one for the mean of its kind.""",
    "cost": """Seconds of a run: its own (full), its share of the stage before (pale), and the rest of that stage,
        as if nothing shared it (palest).""",
}

NOTES = (
    """± is the half-width of Student's 95% interval of the mean over {count}. A {repeats} sets {keys}:
    the interval covers what these change, and not the choice of test images.""",
    """Differences are paired: within one {repeats} both arms differ in nothing but what is compared. An average is
    taken {repeats} by {repeats} over all settings that are complete, then over the {repeats}s.""",
    """“Not distinguishable from zero” means that the interval holds zero. It does not mean equal.""",
    """Each interval stands for itself. Of {settings} looked at one by one, {false_alarms:.1f} on average would
    miss zero by chance if there were no difference at all. The averages are one look each.""",
    """Labels for the same accuracy: the curve of {base}, made non-decreasing, is read backwards along straight
    lines over the logarithm of the {over_name}. The interval holds every amount at which the paired difference
    cannot be told from zero; where it reaches the end of what was measured, it stays open.""",
    """Which of two effects matters more is judged by size: each is turned to the direction of its mean, then both
    are compared in pairs.""",
    """A run that crashed has no accuracy: it stands among the verdicts and not in the means.""",
)


def fill(text: str, **words: object) -> str:
    """Return a caption or note with its words filled in, on one line, its first letter in upper case."""
    filled = " ".join(text.split()).format(**words)
    return filled[:1].upper() + filled[1:]
