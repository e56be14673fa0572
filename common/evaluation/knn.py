"""Owns weighted k-nearest-neighbour classification of features, as DINO's evaluation does it."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

SIMILARITIES = 2**25
"""Similarities at a time: 128 MiB."""


@torch.no_grad()
def nearest(queries_QD: Tensor, bank_ND: Tensor, *, k: int, at_once: int = SIMILARITIES) -> tuple[Tensor, Tensor]:
    """Return the cosine similarities (Q, k) of the k most similar bank features for each query, and their rows (Q, k).

    The most similar comes first; k is never more than the bank holds. Queries go in chunks that take at most
    `at_once` similarities (one query at least), written over one another: fresh memory costs half as much as the product.
    """
    queries, bank = normalize(queries_QD.float(), dim=1), normalize(bank_ND.float(), dim=1)
    k, chunk = min(k, len(bank)), max(1, min(at_once // max(1, len(bank)), len(queries)))
    buffer = queries.new_empty(chunk, len(bank))
    values, rows = (
        queries.new_empty(len(queries), k),
        torch.empty(len(queries), k, dtype=torch.int64, device=queries.device),
    )
    for part, top, found in zip(*(torch.split(block, chunk) for block in (queries, values, rows)), strict=True):
        torch.topk(torch.mm(part, bank.T, out=buffer[: len(part)]), k, dim=1, out=(top, found))
    return values, rows


@torch.no_grad()
def count_votes(similarities_QK: Tensor, labels_QK: Tensor, *, num_classes: int, temperature: float) -> Tensor:
    """Return votes (Q, num_classes): a neighbour of cosine similarity s votes for its class with exp(s / temperature)."""
    votes = torch.zeros(len(similarities_QK), num_classes, device=similarities_QK.device)
    return votes.scatter_add_(1, labels_QK, (similarities_QK / temperature).exp())


def knn_votes(
    queries_QD: Tensor,
    bank_ND: Tensor,
    bank_labels_N: Tensor,
    *,
    num_classes: int,
    k: int,
    temperature: float = 0.07,
    at_once: int = SIMILARITIES,
) -> Tensor:
    """Return the votes (Q, num_classes) of the k most similar bank features (of all, where there are fewer) for each query."""
    similarities, neighbours = nearest(queries_QD, bank_ND, k=k, at_once=at_once)
    return count_votes(similarities, bank_labels_N[neighbours], num_classes=num_classes, temperature=temperature)


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
    """Return `{"knn<k>_top1": percent}` for every k; the plain `knn_top1` is the first k's.

    The neighbours are looked for once: those for a smaller k lead the list of the largest one.
    """
    similarities, neighbours = nearest(queries_QD, bank_ND, k=max(ks))
    labels, found = bank_labels_N[neighbours], {}
    for k in ks:
        votes = count_votes(similarities[:, :k], labels[:, :k], num_classes=num_classes, temperature=temperature)
        found[f"knn{k}_top1"] = 100 * float((votes.argmax(1) == query_labels_Q).float().mean())
    return {"knn_top1": next(iter(found.values())), **found}
