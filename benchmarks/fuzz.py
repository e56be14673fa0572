"""Fuzz what users hand in: `python -m benchmarks.fuzz recipes|images|runs [--cases 10000] [--seed 0]`.

Every case must end in success or in UserError, which is one message. Anything else is a defect: it is shown with the
smallest case that Hypothesis finds, and the exit code is 1. A case that kills the process itself (a decoder's fault in
C) is what <folder>/last_case holds.
"""

import argparse
import importlib
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

MODULES = {"images": "benchmarks.fuzz_images", "recipes": "benchmarks.fuzz_recipes", "runs": "benchmarks.fuzz_runs"}

ADDRESS_SPACE = 12 * 2**30
"""Bytes this process may ask for: what would fill the machine's memory fails at once, as it would on a smaller one."""


def fuzz(name: str, *, cases: int, start: int, note: Path | None = None) -> Counter[bool]:
    """Check `cases` drawn cases; return how many succeeded (True) and how many were refused (False)."""
    module = importlib.import_module(MODULES[name])
    endings: Counter[bool] = Counter()

    @seed(start)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(module.cases())
    def one(case: Any) -> None:
        if note is not None:
            note.write_bytes(case if isinstance(case, bytes) else repr(case).encode(errors="backslashreplace"))
        endings[module.check(case)] += 1

    one()
    return endings


def main() -> int:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("name", choices=sorted(MODULES), help="what to fuzz")
    parser.add_argument("--cases", type=int, default=10_000, help="number of cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: %(default)s)")
    options = parser.parse_args()
    note = Path(tempfile.mkdtemp(prefix="fuzz-")) / "last_case"
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    started = time.monotonic()
    endings = fuzz(options.name, cases=options.cases, start=options.seed, note=note)
    print(
        f"{options.name}: {endings.total()} cases in {time.monotonic() - started:.0f} s, seed {options.seed}:"
        f" {endings[True]} good, {endings[False]} refused with a message, none ended otherwise"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
