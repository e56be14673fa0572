"""Fixed text of the sections after the first screen: captions of their figures, and how to read their tables."""

CAPTIONS = {
    "compute_macs": """{metric_name} over the MACs that one run has spent in all of its stages, forward and backward, the
        pre-training in full; the numbers beside the markers are the {x_name}, bars are 95% confidence intervals over {covered}.
        Runs that chose the lengths are not counted.""",
    "compute_hours": """The same over device-hours as measured: time on the clock, on the machines under “How to reproduce”. Unlike
        MACs they include reading, evaluating and starting, and waiting where other programs or other runs shared the machine: arms
        of the same MACs may differ in hours for that reason alone.""",
    "compute_curves": """{metric_name} on the validation images over the MACs spent so far, the pre-training included, so that a
        two-stage run begins where its pre-training ends. A point in the middle of a curve is not a run of that length: its learning
        rate has not been annealed yet. Curves are shown, not judged.""",
    "curves": """{title} during {stage}, by {x_name}: thin lines are individual runs, the thick line with markers is their
        mean. Only runs that finished are drawn.""",
    "confusion": """Classes taken for others with {where}, in percent of the images of the true class, mean over the
        {repeats}s: errors in color, correct predictions in gray.""",
}
EXPLORATORY = (
    """Everything in these sections is exploratory: it describes the runs, and nothing in it is a test or a claim."""
)
