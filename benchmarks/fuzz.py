"""Fuzz user input: `python -m benchmarks.fuzz recipes|studies|images|layouts|runs [--cases 10000] [--seed 0]`.

Every case must succeed or end in a UserError, a single message. Anything else is a bug: it is printed with the smallest case that
Hypothesis finds, and the exit code is 1. If a case kills the process itself (a segmentation fault in a decoder), it is in
<folder>/last_case.
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

MODULES = {name: f"benchmarks.fuzz_{name}" for name in ("images", "layouts", "recipes", "studies", "runs")}

ADDRESS_SPACE = 12 * 2**30
"""Limit of this process's address space in bytes: excessive allocations fail immediately, as on a smaller machine."""


def fuzz(name: str, *, cases: int, start: int, last_case: Path | None = None) -> Counter[bool]:
    """Check `cases` random cases; return how many succeeded (True) and how many were rejected (False)."""
    module = importlib.import_module(MODULES[name])
    outcomes: Counter[bool] = Counter()

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
    def check(case: Any) -> None:
        if last_case is not None:
            last_case.write_bytes(case if isinstance(case, bytes) else repr(case).encode(errors="backslashreplace"))
        outcomes[module.check(case)] += 1

    check()
    return outcomes


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("name", choices=sorted(MODULES), help="what to fuzz")
    parser.add_argument("--cases", type=int, default=10_000, help="number of cases (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the cases (default: %(default)s)")
    options = parser.parse_args()
    last_case = Path(tempfile.mkdtemp(prefix="fuzz-")) / "last_case"
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    started = time.monotonic()
    outcomes = fuzz(options.name, cases=options.cases, start=options.seed, last_case=last_case)
    print(
        f"{options.name}: {outcomes.total()} cases in {time.monotonic() - started:.0f} s, seed {options.seed}:"
        f" {outcomes[True]} succeeded, {outcomes[False]} rejected with a message, no other outcome"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
