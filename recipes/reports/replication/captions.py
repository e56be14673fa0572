"""Fixed text of a report beside a published table: the captions of its figures, and the notes on how to read its numbers."""

CAPTIONS = {
    "rows": """{metric}, one line per row: filled marks are our means, bars are 95% confidence intervals over {covered}, small
        hollow marks are individual {repeats}s. Triangles at the ends of the axis mark intervals that go on. A cross at the left
        is a row that diverged.{paper}""",
    "curve": """{metric} over {x}: our means with 95% confidence intervals over {covered}. A cross at the bottom is a row that
        diverged. Intervals that extend beyond the axis are clipped.{paper}""",
    "gap": """How far {metric} at each value of {x} is below that at the last one, with 95% confidence intervals over {covered}.
        Closer to zero is more stable.{paper}""",
    "layers": """{metric} by layer: the mean over the {repeats}s, with Student's 95% confidence interval as a band.""",
    "distribution": """Error distribution functions: the fraction of the draws with an error of at most x. Steeper and further left
        is easier to tune. A run that diverged counts as an error of 100, so that its line ends below 100%.""",
    "curves": """Training curves of {stage}: {measure} over the epochs, one panel per row with a thin line for each run and a thick
        one for their mean, in front of the range of all rows in gray. A cross marks the end of a run that diverged; such runs are
        excluded from the mean.""",
}

PAPER_MARKS = {
    "rows": """ Diamonds are the published values (pale if doubtful), a thin cross is a crash in the paper. Where the two ranges
        are far apart, our values (left) and the paper's (right) have separate axes.""",
    "curve": """ The paper's values are thin and hollow.""",
    "gap": """ The paper's gaps are thin and hollow.""",
}
"""What marks the published values in a figure, by kind, at the paper's scale."""
SEPARATE_AXES = """ At the right, on an axis of their own, are the published values (pale if doubtful, a thin cross is a crash in
        the paper): they are of other data, so only the order of the rows compares."""
"""What marks the published values of the figure of rows at any other scale; other figures do not draw them there."""

NOTES = {
    "paper": ("""The arms are as the paper's recipes, not matched in compute.""",),
    "scaled": (
        """Rows are named by the paper's settings. At scale {scale} a smaller network is trained, and learning rates, warm-ups and
        lengths follow the rules of the scale (recipes/studies/scales/{scale}.yaml); the commands below have the values that were
        used. Where rows differ in these, a difference between them is that of the whole recipe. The arms are not matched in
        compute.""",
    ),
    "unmatched": ("""The arms are not matched in compute.""",),
    "images": (
        """Intervals are 95% confidence intervals over {count} and the test images, both taken as random samples (crossed random
        effects): they are for future images of the same kind. A {repeats} sets {keys}.""",
    ),
    "repeats": (
        """Intervals are 95% confidence intervals over {count}, taken as a random sample; the test images are taken as fixed. A
        {repeats} sets {keys}.""",
    ),
    "one": ("""A {repeats} sets {keys}.""",),
    "crash": (
        """“Diverged” is the status of a run here, in any stage; runs that depend on it are not started. “Crash” is what the paper
        prints instead of a value. A row counts as diverged if at least half of its runs that ended did; it then ranks below every
        value. Otherwise its mean is that of the other runs. The rate of a row has Wilson's interval.""",
    ),
    "claims": (
        """A claim holds (or is reversed) if the difference of its two rows is significant, with the p-value adjusted for all claims
        of the table (Holm); its interval is not adjusted. The seeds of different rows count as independent. If at least half of
        the runs of one row diverged, the numbers of diverged runs are compared instead (Boschloo's exact test); if fewer did, the
        claim depends on diverged runs unless it has the same direction with those counted as chance level. “Inconclusive” does not
        mean that the two rows are equal. With fewer than three {repeats}s nothing is significant.""",
    ),
    "order": (
        """Kendall's τ is 1 if all pairs of rows are in the paper's order, 0 if there is no relation, −1 if all are reversed. Its
        p-value is that of an order that has nothing to do with the paper's (exact, or by permutations of the rows where values are
        tied). It compares means only; significant pairs are those that differ at 5% each, of which 5% would without any
        difference. No order is stated if no more pairs than those are significant and the p-value of τ is 0.05 or more.""",
    ),
    "ranks": (
        """A rank is a range: below all rows that are significantly better and above all that are significantly worse, adjusted
        for all pairs of rows (Holm).""",
    ),
    "distribution": (
        """For each row of draws the table gives the best and the median draw, and how many come close to the best. The claims
        compare the fraction of the draws within 2 points of each row's own best, with 95% confidence intervals over the draws. The
        value of a draw is the mean over its {repeats}s, of which one that diverged counts as 0; the last column counts the draws of
        which a run diverged.""",
    ),
    "gap": ("""A claim about gaps compares two rows by how far each is below its own last value.""",),
    "layers": ("""Where a row is summarized by one number, it is the mean over its layers.""",),
}
