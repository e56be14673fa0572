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


TABLE_CAPTIONS = {
    "rows": """{metric}, a line for each row: dots are our means, bars Student's 95% intervals, small dots the single
        {repeats}s; diamonds are the printed values (pale where doubtful). A cross at the left is a crash. Where the two ranges
        lie far apart, ours (left) and the paper's (right) have axes of their own.""",
    "curve": """{metric} over {over}: ours with Student's 95% intervals, the paper's values dashed and hollow. A cross at the
        foot is a crash. Intervals that leave the picture
    are cut.""",
    "gap": """How far {metric} at each {over} is below that at the last: ours paired by {repeats}, with Student's 95%
        intervals, the paper's dashed and hollow. Nearer to zero is more stable.""",
    "layers": """{metric} layer by layer: the mean over the {repeats}s, with Student's 95% interval as a band.""",
    "distribution": """Error distribution functions: the share of the draws with an error of at most x. Steeper and further left
        is easier to tune. A draw that crashed counts as an error of 100, so that its line ends below 100%.""",
    "curves": """How {stage} went: {measure} over the epochs, a panel for each row with a thin line for each run and a thick one for
        their mean, before the other rows in grey. A cross ends a run that crashed, which is in no mean.""",
}

TABLE_NOTES = {
    "all": (
        """± is the half-width of Student's 95% interval of the mean over {count}. A {repeats} sets {keys}.""",
        """Differences of ours and the printed values compare only where data, network, and length of training are the paper's.
        At any other scale look at directions: which row is above which, and what crashes.""",
    ),
    "crash": (
        """A crash is a run that diverged, in whatever stage; what starts from it is not run. A row counts as a crash where at
        least half of its runs that ended crashed; then it is below every value. Otherwise its mean is that of the others.""",
    ),
    "claims": (
        """A claim holds where the interval of the difference, paired by {repeats}, lies above zero, or where the lower row alone
        crashes. “Not distinguishable” means that the interval holds zero, or that both crash. It does not mean equal.""",
    ),
    "order": (
        """Kendall's τ is 1 where all pairs of rows have the paper's order, 0 where there is no relation, −1 where all are reversed.
        It looks at means alone, whatever their intervals.""",
    ),
    "distribution": (
        """Of each row of draws the table gives the best and the median draw, and how many come near the best. The claims compare
        the share of the draws within 2 points of each row's own best, draw by draw; a crashed draw has the value 0.""",
    ),
    "gap": (
        """A claim about gaps compares two rows by how far each is below its own last value: it holds where the interval of
        the difference of the gaps, paired by {repeats}, lies above zero.""",
    ),
    "layers": ("""Where one number stands for a row, it is the mean over its layers.""",),
}


def fill(text: str, **words: object) -> str:
    """Return a caption or note with its words filled in, on one line, its first letter in upper case."""
    filled = " ".join(text.split()).format(**words)
    return filled[:1].upper() + filled[1:]
