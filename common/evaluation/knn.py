"""Weighted k-NN classification of features, as in DINO's evaluation."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from common.evaluation.class_averages import balanced_accuracy, macro_f1
from common.fp32 import full_fp32

MAX_SIMILARITIES = 2**25
"""Number of similarities in memory at a time: 128 MiB in fp32."""


class NeighborClassification(NamedTuple):
    """The result of a k-NN classification."""

    accuracies: dict[str, float]
    """`{"knn<k>_top1": percent}` for every k, and `knn_top1` for the first k."""
    votes: Tensor
    """(Q, num_classes): votes of the first k; the largest, and of equal ones the first, is the prediction."""


@torch.no_grad()
@full_fp32()  # runs of any precision are measured alike
def nearest_neighbors(
    queries_QD: Tensor, bank_ND: Tensor, *, k: int, max_similarities: int = MAX_SIMILARITIES
) -> tuple[Tensor, Tensor]:
    """Return the cosine similarities (Q, k) and the bank rows (Q, k) of each query's k nearest neighbors, nearest first.

    k is clamped to the size of the bank. Queries are processed in chunks of at most `max_similarities` similarities (at least one
    query) in one reused buffer, since allocating fresh memory would cost half as much as the matrix product.
    """
    queries, bank = normalize(queries_QD.float(), dim=1), normalize(bank_ND.float(), dim=1)
    k, chunk = min(k, len(bank)), max(1, min(max_similarities // max(1, len(bank)), len(queries)))
    buffer = queries.new_empty(chunk, len(bank))
    values, rows = (
        queries.new_empty(len(queries), k),
        torch.empty(len(queries), k, dtype=torch.int64, device=queries.device),
    )
    chunks = (torch.split(block, chunk) for block in (queries, values, rows))
    for queries_chunk, values_chunk, rows_chunk in zip(*chunks, strict=True):
        similarities = torch.mm(queries_chunk, bank.T, out=buffer[: len(queries_chunk)])
        torch.topk(similarities, k, dim=1, out=(values_chunk, rows_chunk))
    return values, rows


@torch.no_grad()
def count_votes(similarities_QK: Tensor, labels_QK: Tensor, *, num_classes: int, temperature: float) -> Tensor:
    """Return the votes (Q, num_classes): a neighbor of cosine similarity s votes for its class with exp(s / temperature).

    All votes of a query are divided by that of its nearest neighbor, the first one, so that no temperature is too low for fp32.
    """
    votes = torch.zeros(len(similarities_QK), num_classes, device=similarities_QK.device)
    return votes.scatter_add_(1, labels_QK, ((similarities_QK - similarities_QK[:, :1]) / temperature).exp())


def knn_accuracy(
    queries_QD: Tensor,
    query_labels_Q: Tensor,
    bank_ND: Tensor,
    bank_labels_N: Tensor,
    *,
    num_classes: int,
    ks: tuple[int, ...] = (20,),
    temperature: float = 0.07,
) -> dict[str, float]:
    """Return the accuracies of `classify_by_neighbors`."""
    return classify_by_neighbors(
        queries_QD, query_labels_Q, bank_ND, bank_labels_N, num_classes=num_classes, ks=ks, temperature=temperature
    ).accuracies


@torch.no_grad()
def classify_by_neighbors(
    queries_QD: Tensor,
    query_labels_Q: Tensor,
    bank_ND: Tensor,
    bank_labels_N: Tensor,
    *,
    num_classes: int,
    ks: tuple[int, ...],
    temperature: float,
) -> NeighborClassification:
    """Return the accuracies of every k, and the votes of the first k.

    The neighbors are searched once, for the largest k; a smaller k uses the first of them.
    """
    similarities, neighbors = nearest_neighbors(queries_QD, bank_ND, k=max(ks))
    labels, accuracies, first_votes = bank_labels_N[neighbors], {}, None
    for k in ks:
        votes = count_votes(similarities[:, :k], labels[:, :k], num_classes=num_classes, temperature=temperature)
        accuracies[f"knn{k}_top1"] = 100 * float((votes.argmax(1) == query_labels_Q).float().mean())
        first_votes = votes if first_votes is None else first_votes
    assert first_votes is not None, "at least one k"
    return NeighborClassification({"knn_top1": next(iter(accuracies.values())), **accuracies}, first_votes)


@torch.no_grad()
def neighbor_metrics(found: NeighborClassification, labels_Q: Tensor) -> dict[str, float]:
    """Return the accuracies, and for the first k `knn_balanced_accuracy` and `knn_macro_f1`, in percent."""
    target, prediction = labels_Q.cpu().numpy(), found.votes.argmax(1).cpu().numpy()
    num_classes = found.votes.shape[1]
    return {
        **found.accuracies,
        "knn_balanced_accuracy": balanced_accuracy(target, prediction, num_classes),
        "knn_macro_f1": macro_f1(target, prediction, num_classes),
    }
