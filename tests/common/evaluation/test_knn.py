"""Tests of k-NN classification against brute force."""

import math

import pytest
import torch

from common.evaluation.knn import NeighborClassification, count_votes, knn_accuracy, nearest_neighbors, neighbor_metrics


def brute_force(queries: torch.Tensor, bank: torch.Tensor, labels: torch.Tensor, classes: int, k: int) -> torch.Tensor:
    votes = torch.zeros(len(queries), classes)
    for row, query in enumerate(queries):
        similarity = [
            (float(torch.dot(query, other) / (query.norm() * other.norm())), int(label))
            for other, label in zip(bank, labels)
        ]
        for value, label in sorted(similarity, reverse=True)[:k]:
            votes[row, label] += math.exp(value / 0.07)
    return votes


@pytest.mark.parametrize("max_similarities", [1, 100, 61 * 23, 10**6])
def test_neighbors_do_not_depend_on_the_chunk_size(max_similarities: int) -> None:
    torch.manual_seed(0)
    queries, bank = torch.randn(23, 7), torch.randn(61, 7)
    similarities = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(bank, dim=1).T
    expected = similarities.sort(dim=1, descending=True)
    values, rows = nearest_neighbors(queries, bank, k=9, max_similarities=max_similarities)
    assert torch.allclose(values, expected.values[:, :9], atol=1e-6)
    assert torch.equal(rows, expected.indices[:, :9])


@pytest.mark.parametrize(("queries", "bank"), [(0, 3), (2, 0), (1, 1)])
def test_neighbors_of_few_or_no_queries_and_bank_features(queries: int, bank: int) -> None:
    values, rows = nearest_neighbors(torch.ones(queries, 4), torch.ones(bank, 4), k=5)
    assert values.shape == rows.shape == (queries, min(bank, 5))


@pytest.mark.parametrize("k", [1, 5, 1000])
def test_votes_match_brute_force(k: int) -> None:
    torch.manual_seed(k)
    queries, bank, labels = torch.randn(23, 7), torch.randn(61, 7), torch.randint(0, 4, (61,))
    similarities, rows = nearest_neighbors(queries, bank, k=k, max_similarities=5 * len(bank))
    votes = count_votes(similarities, labels[rows], num_classes=4, temperature=0.07)
    expected = brute_force(queries, bank, labels, 4, k)
    assert torch.allclose(votes * (similarities[:, :1] / 0.07).exp(), expected, rtol=1e-4)


@pytest.mark.parametrize("temperature", [0.01, 1e-3, 1e-9])
@pytest.mark.parametrize("nearest", [1.0, -0.5])
def test_low_temperatures_neither_overflow_nor_vanish(temperature: float, nearest: float) -> None:
    """exp(1 / 0.001) is infinite in single precision and exp(-0.5 / 0.001) zero; both made all classes equal."""
    similarities = torch.tensor([[nearest, nearest - 0.2, nearest - 0.3]])
    votes = count_votes(similarities, torch.tensor([[2, 0, 1]]), num_classes=3, temperature=temperature)
    assert votes.isfinite().all()
    assert votes.argmax(1).tolist() == [2]


def test_k_is_clamped_to_the_size_of_the_bank() -> None:
    bank, labels = torch.eye(3), torch.tensor([0, 1, 2])
    accuracies = knn_accuracy(torch.eye(3), labels, bank, labels, num_classes=3, ks=(200, 1))
    assert accuracies == {"knn_top1": 100.0, "knn200_top1": 100.0, "knn1_top1": 100.0}


def test_class_averages_of_the_first_k_weight_all_classes_alike() -> None:
    """Of 8 images of class 0 all are right, of 2 of class 1 one is, which leaves F1 of 16/17 and 2/3."""
    labels = torch.tensor([0] * 8 + [1] * 2)
    votes = torch.eye(2)[torch.tensor([0] * 9 + [1])]
    metrics = neighbor_metrics(NeighborClassification({"knn_top1": 90.0}, votes), labels)
    assert metrics == pytest.approx(
        {"knn_top1": 90.0, "knn_balanced_accuracy": 75.0, "knn_macro_f1": 100 * (16 / 17 + 2 / 3) / 2}
    )
