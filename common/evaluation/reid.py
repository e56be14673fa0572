"""Metrics of object re-identification (ReID): mean average precision and the CMC curve, with the same-camera rule."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from common.fp32 import full_fp32

MAX_RANK = 50
"""Number of ranks of the CMC curve (Market-1501's protocol)."""
REPORTED_RANKS = (1, 5, 10)


class ReidFeatures(NamedTuple):
    """Features (N, D) of images with their identities (N,) and cameras (N,)."""

    features: Tensor
    identities: Tensor
    cameras: Tensor


NO_MATCH = -1
"""Best-ranked identity of a query for which no gallery image is left."""


class QueryRanks(NamedTuple):
    """The ranking of the gallery for each query, (Q,) each."""

    average_precision: Tensor
    """In [0, 1]; 0 without a match in the gallery."""
    first_match: Tensor
    """Rank of the first match, from 1 on; 0 without a match in the gallery."""
    best_identity: Tensor
    """Identity of the best-ranked gallery image that is not excluded; -1 if all are."""


class Retrieval(NamedTuple):
    """Retrieval metrics of a set of queries, in percent."""

    mean_average_precision: float
    cmc: list[float]
    """Queries whose first match is at rank 1, 2, ... or better, in percent, up to rank 50 or the gallery's size."""
    num_queries: int
    """Number of queries with a match in the gallery; the metrics are over these only."""
    by_query: QueryRanks

    def metrics(self) -> dict[str, float]:
        """Return `map`, `rank1`, `rank5` and `rank10` in percent; ranks beyond the gallery's size are omitted."""
        ranks = {f"rank{rank}": self.cmc[rank - 1] for rank in REPORTED_RANKS if rank <= len(self.cmc)}
        return {"map": self.mean_average_precision, **ranks}


@torch.no_grad()
@full_fp32()  # runs of any precision are measured alike
def rank_gallery(queries: ReidFeatures, gallery: ReidFeatures, *, chunk: int = 128) -> Retrieval:
    """Rank the gallery for each query by the Euclidean distance of L2-normalized features; return mAP and CMC.

    For each query, gallery images of the same identity from the same camera are excluded. A gallery identity without queries
    (Market-1501's distractors, identity 0) never matches. With r_1 < r_2 < ... the ranks of a query's m matches among the
    remaining images, its average precision is the mean over k of k / r_k, and it counts as a hit of the CMC curve from rank
    r_1 on. Ties are broken by the order of the gallery. Queries without a match are excluded from both metrics.

    Time is Q * N * (D + log N); memory beyond the features is about 40 bytes * chunk * N. With 384-dimensional features, one CPU
    core took 6 s and 0.6 GB at its peak for Market-1501's size (3,368 queries, 19,732 gallery images), and takes 2 minutes and
    0.8 GB for MSMT17's (11,659 and 82,161; extrapolated from 640 of the queries).
    """
    bank = normalize(gallery.features.float(), dim=1).T.contiguous()
    chunks = []
    for start in range(0, len(queries.features), chunk):
        features, identities, cameras = (part[start : start + chunk] for part in queries)
        # For unit vectors |a - b|^2 = 2 - 2 a.b, so the largest product is the smallest distance.
        products = normalize(features.float(), dim=1) @ bank
        same = identities[:, None] == gallery.identities
        excluded = same & (cameras[:, None] == gallery.cameras)
        order = torch.sort(products.masked_fill_(excluded, -torch.inf), dim=1, descending=True, stable=True).indices
        matches = torch.gather(same & ~excluded, 1, order)
        best = order[:, :1]
        best_identity = gallery.identities[best].masked_fill(torch.gather(excluded, 1, best), NO_MATCH)
        chunks.append(QueryRanks(*_average_precision(matches), best_identity[:, 0]))
    by_query = QueryRanks(*map(torch.cat, zip(*chunks, strict=True)))
    precision, first = by_query.average_precision, by_query.first_match
    has_match = first > 0
    if not has_match.any():
        return Retrieval(0.0, [0.0] * min(MAX_RANK, len(gallery.features)), 0, by_query)
    ranks = torch.arange(1, min(MAX_RANK, len(gallery.features)) + 1, device=first.device)
    cmc = (first[has_match][:, None] <= ranks).double().mean(0) * 100
    return Retrieval(100 * float(precision[has_match].mean()), cmc.tolist(), int(has_match.sum()), by_query)


def _average_precision(matches: Tensor) -> tuple[Tensor, Tensor]:
    """Return each row's average precision and the rank of its first match, 0 if there is none.

    `matches` is (Q, N), true if the image at that rank matches; excluded images come last.
    """
    hits = matches.cumsum(1, dtype=torch.int32)
    ranks = torch.arange(1, matches.shape[1] + 1, device=matches.device)
    total = hits[:, -1]
    precision = torch.where(matches, hits.double() / ranks, 0.0).sum(1) / total.clamp(min=1)
    first = torch.where(total > 0, matches.int().argmax(1) + 1, 0)
    return precision, first
