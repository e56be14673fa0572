"""Fixed text of a comparison: the captions of its figures, and the notes on how to read its numbers."""

CAPTIONS = {
    "accuracy": """{metric_name} over {x_name}. Lines connect the means, bars are 95% confidence intervals over
        {covered}, small hollow marks are individual {repeats}s.""",
    "accuracy_at_one": """{metric_name} with the only {x_name} of the study. Large marks are means, bars are 95% confidence
        intervals over {covered}, small hollow marks are individual {repeats}s.""",
    "differences": """{other} minus {base}: large marks are means, bars are 95% confidence intervals over {covered},
        small hollow marks are the differences of individual {repeats}s. Where a bar crosses zero, the difference is not
        significant.""",
    "labels": """How many labels {base} needs to match {other}: each line runs from the amount used by {other} to the
        equivalent amount for {base}. The wide bar is the 95% confidence interval; a triangle marks a value outside
        the measured range.""",
    "effects": """The compared effects, averaged and at each {x_name}, or by setting if they interact; bars are 95%
        confidence intervals over {covered}.""",
    "learning": """Training curves of {stage}: thin lines are individual runs, thick lines the mean of each group.""",
}

NOTES = {
    "images": """Intervals are 95% confidence intervals over {count} and the test images, both taken as random samples
        (crossed random effects): they are for future images of the same kind. A {repeats} sets {keys}.""",
    "repeats": """Intervals are 95% confidence intervals over {count}, taken as a random sample; the test images are
        taken as fixed. A {repeats} sets {keys}.""",
    "labels": """Numbers of labels count the training images with labels and the validation images whose labels chose the lengths:
        those of the same share.""",
    "significant": """“Not significant” means that the difference is not significantly different from zero: its
        interval includes zero. It does not mean that the two are equal. With fewer than three {repeats}s nothing is
        significant.""",
    "equivalent": """“Equivalent” means that two one-sided tests at 5% (TOST) place the difference within 1% of the
        metric's range. These tests are not adjusted for the number of claims.""",
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
