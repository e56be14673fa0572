"""Owns weighted k-nearest-neighbour classification of features, as DINO's evaluation does it."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def nearest(queries_QD: Tensor, bank_ND: Tensor, *, k: int, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Return the cosine similarities (Q, k) of the k most similar bank features for each query, and their rows (Q, k).

    The most similar comes first; k is never more than the bank holds. Queries go in chunks, so that the memory is
    chunk * N similarities.
    """
    bank, k = normalize(bank_ND.float(), dim=1).T.contiguous(), min(k, len(bank_ND))
    found = [torch.topk(part @ bank, k, dim=1) for part in torch.split(normalize(queries_QD.float(), dim=1), chunk)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


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
    chunk: int = 1024,
) -> Tensor:
    """Return the votes (Q, num_classes) of the k most similar bank features (of all, where there are fewer) for each query."""
    similarities, neighbours = nearest(queries_QD, bank_ND, k=k, chunk=chunk)
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
