"""k-NN of 10,000 queries with 384-dimensional features of 1,000 classes, compared with the matrix product alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.timing import Table, Variant, compare, matmul_rate
from common.evaluation.knn import MAX_SIMILARITIES, knn_accuracy

QUERIES, BANK, WIDTH, CLASSES = 10_000, 50_000, 384, 1000
KS = (10, 20, 100, 200)
BANKS = (10_000, 50_000, 200_000)
NOISE = 3.0
"""Standard deviation of a class's features around its center: a k-NN accuracy of about three in four."""


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    return [compare_variants(min(repeats, 5)), compare_bank_sizes(min(repeats, 3))]


def compare_variants(repeats: int) -> Table:
    """Time the matrix product alone, and k-NN with one and with four values of k."""
    (queries, query_labels), (bank, labels) = draw(QUERIES, seed=1), draw(BANK, seed=2)

    def accuracies(ks: tuple[int, ...]) -> dict[str, float]:
        return knn_accuracy(queries, query_labels, bank, labels, num_classes=CLASSES, ks=ks)

    variants: dict[str, Variant] = {
        "reference: product alone, a new tensor per chunk": lambda: multiply(queries, bank),
        "product alone, one buffer for all chunks": lambda: multiply_in_place(queries, bank),
        "ours, k = 20": lambda: accuracies((20,)),
        "ours, k = 10, 20, 100, 200": lambda: accuracies(KS),
        "not used: bfloat16, k = 20": lambda: nearest_in_bfloat16(queries, bank, k=20),
    }
    rows = compare(variants, repeats=repeats, per=QUERIES)
    rate = 2 * BANK * WIDTH / rows[1].median_ms / 1e6
    exact, rounded = accuracies((20,))["knn_top1"], bfloat16_accuracy(queries, query_labels, bank, labels)
    limit = (
        f"a large matrix product runs at {matmul_rate():.0f} GFLOP/s, these at {rate:.0f}; with neighbors and votes k = 20 takes"
        f" {rows[2].median_ms / rows[1].median_ms:.2f} and four ks {rows[3].median_ms / rows[1].median_ms:.2f} times as long;"
        f" {MAX_SIMILARITIES * 4 / 2**20:.0f} MiB of similarities at a time; top-1 {exact:.2f}, in bfloat16 {rounded:.2f}"
    )
    return Table(f"k-NN, {QUERIES} queries over {BANK} x {WIDTH}", "ms per query", rows, limit)


def compare_bank_sizes(repeats: int) -> Table:
    """Time 1,000 queries over banks of several sizes."""
    queries, query_labels = draw(1000, seed=1)
    variants = {f"ours, k = 20, {size} in the bank": over_bank(queries, query_labels, size) for size in BANKS}
    rows = compare(variants, repeats=repeats, per=len(queries))
    each = ", ".join(f"{row.median_ms * 1e6 / size:.1f}" for row, size in zip(rows, BANKS, strict=True))
    return Table("k-NN by size of the bank", "ms per query", rows, f"nanoseconds per query and bank image: {each}")


def over_bank(queries: Tensor, query_labels: Tensor, size: int) -> Callable[[], object]:
    """Return a function that searches a bank of `size`."""
    bank, labels = draw(size, seed=2)
    return lambda: knn_accuracy(queries, query_labels, bank, labels, num_classes=CLASSES)


def draw(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return features drawn around the centers of their classes, and the classes."""
    centers = torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return centers[labels] + NOISE * torch.randn(count, WIDTH, generator=generator), labels


def multiply(queries: Tensor, bank: Tensor) -> None:
    """Multiply in the same chunks of queries as `nearest_neighbors`."""
    for part in queries.split(MAX_SIMILARITIES // len(bank)):
        part @ bank.T


def multiply_in_place(queries: Tensor, bank: Tensor) -> None:
    """Multiply in the same chunks into one buffer."""
    chunk = MAX_SIMILARITIES // len(bank)
    buffer = torch.empty(chunk, len(bank))
    for part in queries.split(chunk):
        torch.mm(part, bank.T, out=buffer[: len(part)])


def nearest_in_bfloat16(queries: Tensor, bank: Tensor, *, k: int) -> Tensor:
    """Return the bank rows (Q, k) of the nearest neighbors by similarities in bfloat16."""
    small = torch.nn.functional.normalize(bank, dim=1).bfloat16()
    parts = torch.nn.functional.normalize(queries, dim=1).bfloat16().split(MAX_SIMILARITIES // len(bank))
    return torch.cat([(part @ small.T).topk(k, dim=1).indices for part in parts])


def bfloat16_accuracy(queries: Tensor, query_labels: Tensor, bank: Tensor, labels: Tensor) -> float:
    """Return the accuracy in percent with neighbors selected in bfloat16 and weighted in fp32."""
    rows, hits = nearest_in_bfloat16(queries, bank, k=20), 0
    normalized = torch.nn.functional.normalize(bank, dim=1)
    for part, near, truth in zip(queries.split(500), rows.split(500), query_labels.split(500), strict=True):
        similarity = torch.einsum("qd,qkd->qk", torch.nn.functional.normalize(part, dim=1), normalized[near])
        votes = torch.zeros(len(part), CLASSES).scatter_add_(1, labels[near], (similarity / 0.07).exp())
        hits += int((votes.argmax(1) == truth).sum())
    return 100 * hits / len(queries)
