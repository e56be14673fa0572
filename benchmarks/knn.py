"""k-NN of 2,000 queries over 50,000 x 384 features, against the bare product of the two matrices."""

import torch

from benchmarks.timing import Table, compare
from common.evaluation.knn import knn_votes

QUERIES, BANK, WIDTH = 2000, 50000, 384


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    torch.manual_seed(0)
    queries, bank, labels = torch.randn(QUERIES, WIDTH), torch.randn(BANK, WIDTH), torch.randint(0, 1000, (BANK,))
    rows = compare(
        {
            "plain: the bare product, in the same chunks": lambda: [part @ bank.T for part in queries.split(1024)],
            "ours: product, top 20, votes": lambda: knn_votes(queries, bank, labels, num_classes=1000, k=20),
        },
        repeats=repeats,
        per=QUERIES,
    )
    rate = 2 * BANK * WIDTH / rows[0].median_ms / 1e6
    limit = f"the product runs at {rate:.0f} GFLOP/s; with neighbours and votes it takes {1 / rows[1].ratio:.2f} times as long"
    return [Table(f"k-NN, {QUERIES} queries over {BANK} x {WIDTH}", "ms a query", rows, limit)]
