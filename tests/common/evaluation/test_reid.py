"""Tests of mAP and CMC: a ranking by hand, a naive loop, the same-camera rule, distractors, ties, chunks."""

import numpy as np
import pytest
import torch

from common.evaluation.reid import Sighted, rank_gallery


def sighted(features, identities, cameras):
    return Sighted(torch.tensor(features, dtype=torch.float32), torch.tensor(identities), torch.tensor(cameras))


def on_circle(*degrees):
    """Return 2-D features whose distance grows with the angle between them."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).tolist()


def test_a_ranking_by_hand():
    """Query 7 by camera 1; by distance the gallery is: 7 c1 (left out), 3, 7 c2, distractor, 7 c3, 5."""
    query = sighted(on_circle(0), [7], [1])
    gallery = sighted(on_circle(50, 5, 40, 10, 30, 20), [5, 7, 7, 3, 0, 7], [2, 1, 3, 1, 2, 2])
    found = rank_gallery(query, gallery)
    # The matches stand at ranks 2 and 4 of the five that are left: (1/2 + 2/4) / 2.
    assert found.mean_average_precision == pytest.approx(50.0)
    assert found.cmc == pytest.approx([0, 100, 100, 100, 100, 100]) and found.num_queries == 1
    assert found.metrics() == pytest.approx({"map": 50.0, "rank1": 0.0, "rank5": 100.0})


def naive(query, gallery):
    """Rank query by query, as the definition reads."""
    precisions, firsts = [], []
    for feature, identity, camera in zip(*(part.numpy() for part in query), strict=True):
        ranking = []
        for place in range(len(gallery.features)):
            other = gallery.features[place].numpy()
            distance = np.linalg.norm(feature / np.linalg.norm(feature) - other / np.linalg.norm(other))
            if not (gallery.identities[place] == identity and gallery.cameras[place] == camera):
                ranking.append((distance, place))
        hits = [bool(gallery.identities[place] == identity) for _, place in sorted(ranking)]
        if any(hits):
            ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
            precisions.append(np.mean([number / rank for number, rank in enumerate(ranks, 1)]))
            firsts.append(ranks[0])
    cmc = [100 * np.mean([first <= rank for first in firsts]) for rank in range(1, 51)]
    return 100 * np.mean(precisions), cmc, len(firsts)


@pytest.mark.parametrize("chunk", [3, 128])
def test_many_rankings_are_those_of_the_naive_loop(chunk):
    draws = torch.Generator().manual_seed(0)
    query, gallery = (
        Sighted(
            torch.randn(count, 5, generator=draws) * 3,
            torch.randint(1, 14, (count,), generator=draws),
            torch.randint(1, 4, (count,), generator=draws),
        )
        for count in (20, 60)
    )
    gallery.identities[::7] = 0
    query.identities[3] = 99
    found, expected = rank_gallery(query, gallery, chunk=chunk), naive(query, gallery)
    assert found.mean_average_precision == pytest.approx(expected[0])
    assert found.cmc == pytest.approx(expected[1]) and found.num_queries == expected[2] == 19


def test_distractors_push_matches_down_and_never_match():
    query, faces = sighted(on_circle(0), [1], [1]), on_circle(10, 20)
    assert rank_gallery(query, sighted(faces, [2, 1], [2, 2])).mean_average_precision == pytest.approx(50)
    assert rank_gallery(query, sighted(faces, [0, 1], [1, 2])).mean_average_precision == pytest.approx(50)


def test_equal_distances_stand_in_the_order_of_the_gallery():
    query = sighted([[1.0, 0.0]], [1], [1])
    first = rank_gallery(query, sighted([[0.0, 1.0]] * 3, [1, 2, 3], [2, 2, 2]))
    last = rank_gallery(query, sighted([[0.0, 1.0]] * 3, [3, 2, 1], [2, 2, 2]))
    assert (first.mean_average_precision, last.mean_average_precision) == pytest.approx((100, 100 / 3))


def test_the_length_of_a_feature_has_no_part():
    query, faces = sighted(on_circle(0), [1], [1]), torch.tensor(on_circle(10, 20))
    scaled = faces * torch.tensor([[0.1], [50.0]])
    assert rank_gallery(query, sighted(scaled.tolist(), [1, 2], [2, 2])).cmc[0] == 100


def test_no_query_with_a_match_is_worth_nothing():
    found = rank_gallery(sighted(on_circle(0), [1], [1]), sighted(on_circle(0, 5), [1, 2], [1, 1]))
    assert (found.mean_average_precision, found.num_queries, found.cmc) == (0.0, 0, [0.0, 0.0])
