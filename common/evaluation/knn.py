"""Owns weighted k-nearest-neighbour classification of features, as DINO's evaluation does it."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
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
    """Return the votes (Q, num_classes) of the k most similar bank features for each query.

    Features are L2-normalised; a neighbour of cosine similarity s votes for its class with exp(s / temperature). k is never
    more than the bank holds. Queries go in chunks, so that the memory is chunk * N similarities.
    """
    bank, k = normalize(bank_ND.float(), dim=1).T.contiguous(), min(k, len(bank_ND))
    votes = torch.zeros(len(queries_QD), num_classes, device=queries_QD.device)
    for rows, part in zip(
        torch.split(votes, chunk), torch.split(normalize(queries_QD.float(), dim=1), chunk), strict=True
    ):
        similarities, neighbours = torch.topk(part @ bank, k, dim=1)
        rows.scatter_add_(1, bank_labels_N[neighbours], (similarities / temperature).exp())
    return votes


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
    """Return `{"knn<k>_top1": percent}` for every k; the plain `knn_top1` is the first k's."""
    found = {}
    for k in ks:
        votes = knn_votes(queries_QD, bank_ND, bank_labels_N, num_classes=num_classes, k=k, temperature=temperature)
        found[f"knn{k}_top1"] = 100 * float((votes.argmax(1) == query_labels_Q).float().mean())
    return {"knn_top1": next(iter(found.values())), **found}
