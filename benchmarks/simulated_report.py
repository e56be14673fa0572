"""What the reports of simulated studies compare: two stems, trained in one stage and in two."""

from recipes.study.report_specification import ReportSpec

SPEC = ReportSpec(
    "test_top1",
    "top-1",
    "fraction",
    "labels",
    "seed",
    {"training": ("OST", "TST"), "stem": ("patchify", "conv")},
    {},
    (),
)
