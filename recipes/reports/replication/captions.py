"""Fixed text of a report beside a published table: the captions of its figures, and the notes on how to read its numbers."""

CAPTIONS = {
    "rows": """{metric}, one line per row: filled marks are our means, bars are Student's 95% confidence intervals, small hollow
        marks are individual {repeats}s; diamonds are the published values (pale if doubtful). A cross at the left is a crash. Where
        the two ranges are far apart, our values (left) and the paper's (right) have separate axes.""",
    "curve": """{metric} over {x}: our values with Student's 95% confidence intervals, the paper's values thin and hollow. A
        cross at the bottom is a crash. Intervals that extend beyond the axis are clipped.""",
    "gap": """How far {metric} at each value of {x} is below that at the last one: our values paired by {repeats}, with Student's
        95% confidence intervals, the paper's thin and hollow. Closer to zero is more stable.""",
    "layers": """{metric} by layer: the mean over the {repeats}s, with Student's 95% confidence interval as a band.""",
    "distribution": """Error distribution functions: the fraction of the draws with an error of at most x. Steeper and further left
        is easier to tune. A draw that crashed counts as an error of 100, so that its line ends below 100%.""",
    "curves": """Training curves of {stage}: {measure} over the epochs, one panel per row with a thin line for each run and a thick
        one for their mean, in front of the range of all rows in gray. A cross marks the end of a run that crashed; such runs are
        excluded from the mean.""",
}

NOTES = {
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
