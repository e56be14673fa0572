"""Fixed text of a report: the captions of the figures, and the notes on how to read the numbers."""

CAPTIONS = {
    "accuracy": """{metric_name} over {x_name}. Lines connect the means, bars are 95% confidence intervals over
        {covered}, small dots are individual {repeats}s.""",
    "differences": """{other} minus {base}: large dots are means, bars are 95% confidence intervals over {covered},
        small dots are the differences of individual {repeats}s. Where a bar crosses zero, the difference is not
        significant.""",
    "labels": """How many labels {base} needs to match {other}: each line runs from the amount used by {other} to the
        equivalent amount for {base}. The wide bar is the 95% confidence interval; a triangle marks a value outside
        the measured range.""",
    "effects": """The compared effects, averaged and at each {x_name}, or by setting where they interact; bars are 95%
        confidence intervals over {covered}.""",
    "learning": """Training curves of {stage}: thin lines are individual runs, thick lines the mean of each group.""",
    "cost": """Seconds per run: the run itself (full color), its amortized fraction of the earlier stages (pale), and
        the remainder of the earlier stages, incurred only by a run that shares them with no other (palest).""",
}

NOTES = {
    "images": """Intervals are 95% confidence intervals over {count} and the test images, both taken as random samples
        (crossed random effects): they are for future images of the same kind. A {repeats} sets {keys}.""",
    "repeats": """Intervals are 95% confidence intervals over {count}, taken as a random sample; the test images are
        taken as fixed. A {repeats} sets {keys}.""",
    "significant": """“Not significant” means that the difference is not significantly different from zero: its
        interval includes zero. It does not mean that the two are equal. With fewer than three {repeats}s nothing is
        significant.""",
    "equivalent": """“Equivalent” means that two one-sided tests at 5% (TOST) place the difference within 1% of the
        metric's range.""",
    "claims": """The claims of the table are declared by the study; their p-values are adjusted for all of them
        (Holm). Everything else is exploratory.""",
    "exploratory": """Without any effect, at least one of the {exploratory} individual differences would be
        significant with a probability of {false_mark:.0f}% if they were independent.""",
    "saving": """Labels for the same {metric_name}: the mean curve of {base}, made monotone, is inverted by linear
        interpolation over the logarithm of the number of labels. The interval contains every amount at which the
        difference is not significantly different from zero; where it leaves the measured range, no number is stated.
        Nothing is extrapolated.""",
    "diverged": """A run that diverged has no {metric_name}: it is listed among the statuses and excluded from the
        means. The rate of such runs is given with Wilson's interval, and claims are also evaluated with diverged runs
        counted as uninformative predictions.""",
}


TABLE_CAPTIONS = {
    "rows": """{metric}, one line per row: dots are our means, bars are Student's 95% confidence intervals, small dots are
        individual {repeats}s; diamonds are the published values (pale if doubtful). A cross at the left is a crash. Where the two
        ranges are far apart, our values (left) and the paper's (right) have separate axes.""",
    "curve": """{metric} over {x}: our values with Student's 95% confidence intervals, the paper's values dashed and hollow. A
        cross at the bottom is a crash. Intervals that extend beyond the axis are clipped.""",
    "gap": """How far {metric} at each value of {x} is below that at the last one: our values paired by {repeats}, with Student's
        95% confidence intervals, the paper's dashed and hollow. Closer to zero is more stable.""",
    "layers": """{metric} by layer: the mean over the {repeats}s, with Student's 95% confidence interval as a band.""",
    "distribution": """Error distribution functions: the fraction of the draws with an error of at most x. Steeper and further left
        is easier to tune. A draw that crashed counts as an error of 100, so that its line ends below 100%.""",
    "curves": """Training curves of {stage}: {measure} over the epochs, one panel per row with a thin line for each run and a thick
        one for their mean, in front of the other rows in gray. A cross marks the end of a run that crashed; such runs are excluded
        from the mean.""",
}

TABLE_NOTES = {
    "paper": ("""The arms are as the paper's recipes, not matched in compute.""",),
    "unmatched": ("""The arms are not matched in compute.""",),
    "all": (
        """± is the half-width of Student's 95% confidence interval of the mean over {count}, and not over test images: it is for
        these test images alone. A {repeats} sets {keys}.""",
        """Differences between our values and the published ones are meaningful only where data, network and training length are
        the paper's. At any other scale compare directions: which row is above which, and what crashes.""",
    ),
    "crash": (
        """A crash is a run that diverged, in any stage; runs that depend on it are not started. A row counts as a crash if at
        least half of its completed runs crashed; it then ranks below every value. Otherwise its mean is that of the other runs.""",
    ),
    "claims": (
        """A claim holds if the interval of the difference over the {repeats}s, paired by {repeats}, is above zero, or if only the
        lower row crashes, in more than half of its runs. The interval does not cover the sampling of test images, and is not
        adjusted for the number of claims. “Inconclusive” means that the interval includes zero, that there are fewer than three
        {repeats}s, that both rows crash, or that just half of the runs of one do. It does not mean that the two are equal. Runs
        that crashed are not in the differences.""",
    ),
    "order": (
        """Kendall's τ is 1 if all pairs of rows are in the paper's order, 0 if there is no relation, −1 if all are reversed.
        It compares means only, regardless of their intervals. A pair of rows is distinguished if the interval of its paired
        difference excludes zero, or if exactly one of the two rows crashed, in more than half of its runs.""",
    ),
    "distribution": (
        """For each row of draws the table gives the best and the median draw, and how many come close to the best. The claims
        compare the fraction of the draws within 2 points of each row's own best, draw by draw; a crashed draw has the value 0.""",
    ),
    "gap": (
        """A claim about gaps compares two rows by how far each is below its own last value: it holds if the interval of
        the difference of the gaps, paired by {repeats}, is above zero.""",
    ),
    "layers": ("""Where a row is summarized by one number, it is the mean over its layers.""",),
}


def fill(text: str, **words: object) -> str:
    """Return a caption or note with its placeholders filled in, on one line, with its first letter capitalized."""
    filled = " ".join(text.split()).format(**words)
    return filled[:1].upper() + filled[1:]
