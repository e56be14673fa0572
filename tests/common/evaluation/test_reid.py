"""Tests of mAP and CMC: a ranking by hand, a naive loop, the same-camera rule, distractors, ties, chunks."""

import numpy as np
import pytest
import torch

from common.evaluation.reid import ReidFeatures, rank_gallery


def reid_features(features, identities, cameras):
    return ReidFeatures(torch.tensor(features, dtype=torch.float32), torch.tensor(identities), torch.tensor(cameras))


def on_circle(*degrees):
    """Return 2-D features whose distance grows with the angle between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).tolist()


def test_a_ranking_by_hand():
    """Identity 7, camera 1 is the query; by distance the gallery is: 7 c1 (excluded), 3, 7 c2, distractor, 7 c3, 5."""
    query = reid_features(on_circle(0), [7], [1])
    gallery = reid_features(on_circle(50, 5, 40, 10, 30, 20), [5, 7, 7, 3, 0, 7], [2, 1, 3, 1, 2, 2])
    retrieval = rank_gallery(query, gallery)
    # The matches are at ranks 2 and 4 of the five remaining images: (1/2 + 2/4) / 2.
    assert retrieval.mean_average_precision == pytest.approx(50.0)
    assert retrieval.cmc == pytest.approx([0, 100, 100, 100, 100, 100]) and retrieval.num_queries == 1
    assert retrieval.metrics() == pytest.approx({"map": 50.0, "rank1": 0.0, "rank5": 100.0})
    precision, first, best = (values.tolist() for values in retrieval.by_query)
    assert precision == pytest.approx([0.5]) and (first, best) == ([2], [3])


def naive(query, gallery):
    """Rank query by query, as in the definition."""
    precisions, firsts = [], []
    for feature, identity, camera in zip(*(part.numpy() for part in query), strict=True):
        ranking = []
        for index in range(len(gallery.features)):
            other = gallery.features[index].numpy()
            distance = np.linalg.norm(feature / np.linalg.norm(feature) - other / np.linalg.norm(other))
            if not (gallery.identities[index] == identity and gallery.cameras[index] == camera):
                ranking.append((distance, index))
        hits = [bool(gallery.identities[index] == identity) for _, index in sorted(ranking)]
        if any(hits):
            ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
            precisions.append(np.mean([number / rank for number, rank in enumerate(ranks, 1)]))
            firsts.append(ranks[0])
    cmc = [100 * np.mean([first <= rank for first in firsts]) for rank in range(1, 51)]
    return 100 * np.mean(precisions), cmc, len(firsts)


@pytest.mark.parametrize("chunk", [3, 128])
def test_rankings_match_the_naive_loop(chunk):
    generator = torch.Generator().manual_seed(0)
    query, gallery = (
        ReidFeatures(
            torch.randn(count, 5, generator=generator) * 3,
            torch.randint(1, 14, (count,), generator=generator),
            torch.randint(1, 4, (count,), generator=generator),
        )
        for count in (20, 60)
    )
    gallery.identities[::7] = 0
    query.identities[3] = 99
    retrieval, expected = rank_gallery(query, gallery, chunk=chunk), naive(query, gallery)
    assert retrieval.mean_average_precision == pytest.approx(expected[0])
    assert retrieval.cmc == pytest.approx(expected[1]) and retrieval.num_queries == expected[2] == 19


def test_distractors_push_matches_down_and_never_match():
    query, features = reid_features(on_circle(0), [1], [1]), on_circle(10, 20)
    assert rank_gallery(query, reid_features(features, [2, 1], [2, 2])).mean_average_precision == pytest.approx(50)
    assert rank_gallery(query, reid_features(features, [0, 1], [1, 2])).mean_average_precision == pytest.approx(50)


def test_ties_are_broken_by_the_order_of_the_gallery():
    query = reid_features([[1.0, 0.0]], [1], [1])
    first = rank_gallery(query, reid_features([[0.0, 1.0]] * 3, [1, 2, 3], [2, 2, 2]))
    last = rank_gallery(query, reid_features([[0.0, 1.0]] * 3, [3, 2, 1], [2, 2, 2]))
    assert (first.mean_average_precision, last.mean_average_precision) == pytest.approx((100, 100 / 3))


def test_the_norm_of_a_feature_does_not_matter():
    query, features = reid_features(on_circle(0), [1], [1]), torch.tensor(on_circle(10, 20))
    scaled = features * torch.tensor([[0.1], [50.0]])
    assert rank_gallery(query, reid_features(scaled.tolist(), [1, 2], [2, 2])).cmc[0] == 100


def test_metrics_are_0_if_no_query_has_a_match():
    retrieval = rank_gallery(reid_features(on_circle(0), [1], [1]), reid_features(on_circle(0, 5), [1, 2], [1, 1]))
    assert (retrieval.mean_average_precision, retrieval.num_queries, retrieval.cmc) == (0.0, 0, [0.0, 0.0])
    assert retrieval.by_query.best_identity.tolist() == [2]


def test_without_a_gallery_image_that_counts_no_identity_is_best():
    query = reid_features(on_circle(0, 0), [1, 2], [1, 1])
    assert rank_gallery(query, reid_features(on_circle(0), [1], [1])).by_query.best_identity.tolist() == [-1, 1]
