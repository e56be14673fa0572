"""Table and sentences on the cost of the arms, and on whether the labels saved pay for the device-hours."""

import math
from collections.abc import Iterator, Sequence

from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.price import PointCost, Weighing, is_stated
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.comparison.tables import ComparisonTables
from recipes.reports.formatting import capital, signed_distinctly, within_95
from recipes.reports.run_tables import NOTHING, Table
from recipes.study.report_specification import Price

EXAMPLE = "report.price, such as {label: 0.05, device_hour: 1.5, currency: USD}"


def amount(value: float) -> str:
    """Return a positive or negative amount with three significant digits, all those before the point, and no zeros at its end."""
    if not math.isfinite(value):
        return NOTHING
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


class PriceWords:
    """The wording of costs; `price` is None where the study has none."""

    def __init__(self, findings: Findings, words: ComparisonWords, tables: ComparisonTables) -> None:
        """Take the findings, their wording, and the tables, which name axes and levels."""
        self.findings, self.words, self.tables = findings, words, tables
        self.price: Price | None = findings.spec.price
        main = findings.main
        self.base, self.other = words.title(main.base), words.title(main.other)

    def table(self, costs: Sequence[PointCost]) -> Table:
        """Return device-hours of a run of both arms at every point, the cost with its labels, and the extra per point gained."""
        main, x = self.findings.main, self.findings.spec.x
        axes = [axis for axis in main.by_setting[0].levels if axis != x]
        header = [*self.tables.heads(axes), capital(self.words.spec.x_name)]
        header += [f"{main.base}, device-hours", f"{main.other}, device-hours"]
        if self._prices_runs:
            assert self.price is not None
            header += [f"{name}, {self.price.currency}" for name in (main.base, main.other)]
        header += [f"{main.other} − {main.base}", "95% CI"]
        header += ["Extra device-hours per point gained"] if self.words.metric.in_percent else []
        rows = []
        for cost in costs:
            levels, found = cost.difference.levels, cost.difference.interval
            digits = self.words.metric.digits
            row = [*self.tables.titles(levels, axes), self.words.labels(levels[x])]
            row += [NOTHING if hours is None else amount(hours) for hours in (cost.base, cost.other)]
            row += [self._total(hours, levels[x]) for hours in (cost.base, cost.other)] if self._prices_runs else []
            row += [NOTHING if math.isnan(found.mean) else signed_distinctly(found.mean, digits)]
            row += [within_95(found, digits).removeprefix("95% CI ") if found.is_known else NOTHING]
            gained = cost.per_point(higher_is_better=self.words.metric.higher_is_better)
            row += [amount(gained)] if self.words.metric.in_percent else []
            rows.append(row)
        return Table(header, rows, len(axes) + 1)

    @property
    def _prices_runs(self) -> bool:
        """Return whether a run's labels and device-hours have a price."""
        return self.price is not None and self.words.counts_labels

    def _total(self, hours: float | None, x: str) -> str:
        """Return the cost of a run with its labels."""
        assert self.price is not None
        if hours is None:
            return NOTHING
        return amount(self.findings.labels[x] * self.price.label + hours * self.price.device_hour)

    def sentences(self, found: Sequence[Weighing], total: float) -> Iterator[str]:
        """Yield what the numbers are, what is weighed against what, and how prices are set."""
        yield (
            f"Device-hours are those of one run as measured, in all of its stages, with {self._earlier()} in full, although several"
            f" runs may share it; the whole study took {amount(total)} device-hours"
            + (", those of the runs that chose the lengths not counted." if self.findings.choices else ".")
        )
        if self.price is not None:
            price = self.price
            yield (
                f"Prices of the study: {amount(price.label)} {price.currency} per label, {amount(price.device_hour)}"
                f" {price.currency} per device-hour."
            )
        weighed = {tuple(each.panel.items()): each for each in found}
        for panel, saving in self.findings.savings:
            each = weighed.get(tuple(panel.items()))
            if each is not None:
                yield capital(f"{self.words.with_panel(panel)}{self._weighed(each)}")
            elif is_stated(self.words, panel, saving):
                yield capital(
                    f"{self.words.with_panel(panel)}the device-hours to weigh the labels against are not known."
                )
        if not self.words.spec.counts_labels:
            return
        if not found:
            yield "No number of saved labels is stated, so there is nothing to weigh against the device-hours."
        if self.price is None:
            yield f"Without prices, costs are in device-hours. Set {EXAMPLE}, in the study's file."

    def _earlier(self) -> str:
        """Return the earlier stages by name."""
        stages = list(dict.fromkeys(self.findings.earlier.stages[run] for run in self._earlier_runs()))
        return f"the {' and '.join(stages)} run that it starts from" if stages else "the earlier ones"

    def _earlier_runs(self) -> list[str]:
        """Return the runs that cells start from."""
        return self.findings.earlier.of(self.findings.earlier.by_cell)

    def _weighed(self, each: Weighing) -> str:
        """Return what the other arm saves and adds, and where they are worth the same."""
        labels = f"{abs(each.labels):,.0f} labels ({_range(each.low, each.high, form='{:,.0f}')})"
        hours = f"{amount(abs(each.hours))} device-hours"
        saves, adds = (labels, hours) if each.labels > 0 else (hours, labels)
        start = f"{self.other} with {self.words.labels(self.findings.saving_x)}"
        if not each.is_trade:
            if each.labels > 0:
                return f"{start} saves {labels} and {hours}: at no price is {self.base} cheaper."
            return f"{start} needs {labels} more and {hours} more: at no price is it cheaper than {self.base}."
        sentence = (
            f"{start} saves {saves} and takes {adds} more than {self.base} with the same {self.words.spec.metric_name}"
        )
        pays = "more" if each.labels > 0 else "less"
        middle, low, high = each.hours_per_label
        if self.price is None:
            even = f"{amount(middle)} device-hours ({amount(low)} to {amount(high)})"
            return f"{sentence}: it pays if a label costs {pays} than {even}."
        factor, unit = self.price.device_hour, self.price.currency
        even = f"{amount(middle * factor)} {unit} ({amount(low * factor)} to {amount(high * factor)})"
        worth = abs(each.hours) * factor / self.price.label
        low_gain, high_gain = each.gain(self.price)
        outcome = "it pays" if low_gain > 0 else "it does not pay" if high_gain < 0 else "whether it pays is open"
        return (
            f"{sentence}. Those device-hours are worth {amount(worth)} labels; at the study's prices {outcome}"
            f" (a gain of {_range(low_gain, high_gain)} {unit}). It pays if a label costs {pays} than {even}."
        )


def _range(low: float, high: float, *, form: str = "") -> str:
    """Return `3 to 5`; of negative counts of labels their absolute values, ascending, in the format `form`."""
    if not form:
        return f"{amount(low)} to {amount(high)}"
    ends = sorted((abs(low), abs(high)))
    return " to ".join(form.format(end) for end in ends)
