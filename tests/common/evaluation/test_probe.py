"""Logistic regression on features: against scikit-learn called naively, its objective by hand, the choice of the strength."""

import logging

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.errors import UserError
from common.evaluation import probe
from common.evaluation.config import ProbeConfig
from common.evaluation.probe import choose_probe, is_fitted
from common.interruption import WaitInterrupted, interrupt_wait


def blobs(count: int, *, seed: int, classes: int = 3, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return features (count, 4) of overlapping classes, with a scale and an offset of their own per dimension, and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    features = torch.nn.functional.one_hot(labels, 4) + noise * torch.randn(count, 4, generator=generator)
    return features * torch.tensor([1.0, 10.0, 0.1, 3.0]) + 5, labels


def standardized(features: Tensor, training: Tensor) -> Tensor:
    return (features - training.mean(0)) / training.std(0, correction=0)


def test_logits_equal_scikit_learns() -> None:
    (train, labels), (queries, _) = blobs(60, seed=0), blobs(20, seed=1)
    found = choose_probe(train, labels, l2=(0.05,), num_classes=3, validation=None)
    reference = LogisticRegression(C=1 / (0.05 * 60)).fit(standardized(train, train).numpy(), labels.numpy())
    wanted = reference.decision_function(standardized(queries, train).numpy())
    np.testing.assert_allclose(found.logits(queries).numpy(), wanted, rtol=1e-3, atol=1e-3)


def test_the_objective_is_the_mean_cross_entropy_and_half_the_squared_weights() -> None:
    """At the minimum its gradient is zero, for any number of images."""
    train, labels = blobs(90, seed=0)
    features = standardized(train, train)
    fitted = choose_probe(train, labels, l2=(0.02,), num_classes=3, validation=None).classifier
    weight, bias = (torch.tensor(each).float().requires_grad_() for each in (fitted.coef_, fitted.intercept_))
    loss = cross_entropy(features @ weight.T + bias, labels) + 0.02 / 2 * (weight**2).sum()
    for gradient in torch.autograd.grad(loss, [weight, bias]):
        assert float(gradient.abs().max()) < 2e-4


def test_the_strength_is_chosen_by_hand() -> None:
    """Nine images of class 0 at 0, one of class 1 at 1: only a weak regularization predicts class 1 anywhere."""
    train, labels = torch.tensor([[0.0]] * 9 + [[1.0]]), torch.tensor([0] * 9 + [1])
    for label, wanted in ((1, 1e-3), (0, 100.0)):
        validation = torch.tensor([[1.0], [0.0]]), torch.tensor([label, 0])
        chosen = choose_probe(train, labels, l2=(100.0, 1e-3), num_classes=2, validation=validation)
        assert chosen.l2 == wanted
        assert chosen.logits(torch.tensor([[0.0], [1.0]])).argmax(1).tolist() == [0, label]


def test_the_best_of_several_strengths_is_chosen() -> None:
    (train, labels), validation = blobs(24, seed=0, noise=0.6), blobs(90, seed=50, noise=0.6)
    strengths = (1e-4, 1e-2, 0.1, 1.0, 10.0)
    correct = {}
    for strength in strengths:
        classifier = LogisticRegression(C=1 / (strength * 24)).fit(standardized(train, train).numpy(), labels.numpy())
        right = classifier.predict(standardized(validation[0], train).numpy()) == validation[1].numpy()
        correct[strength] = int(right.sum())
    best = max(strengths, key=lambda strength: (correct[strength], strength))
    assert len(set(correct.values())) > 1 and best not in (min(strengths), max(strengths))
    assert choose_probe(train, labels, l2=strengths, num_classes=3, validation=validation).l2 == best


def test_a_choice_at_the_weak_end_of_the_list_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train, labels = torch.tensor([[0.0]] * 9 + [[1.0]]), torch.tensor([0] * 9 + [1])
    for label, wanted in ((1, True), (0, False)):
        caplog.clear()
        validation = torch.tensor([[1.0], [0.0]]), torch.tensor([label, 0])
        choose_probe(train, labels, l2=(100.0, 1e-3), num_classes=2, validation=validation)
        assert ("0.001, is the best; a smaller one may be better" in caplog.text) == wanted


def test_equal_strengths_give_the_strongest() -> None:
    train, labels = blobs(30, seed=0, noise=0.01)
    chosen = choose_probe(train, labels, l2=(0.01, 0.1, 1e-3), num_classes=3, validation=(train, labels))
    assert chosen.l2 == 0.1


@pytest.mark.parametrize(
    ("strengths", "middle"),
    [((1.0,), 1.0), ((1.0, 1e-3, 1e-2), 1e-2), ((1e-3, 1.0, 0.1, 1e-2), 0.1), ((1.0, 1.0, 1.0, 1e-2, 0.1), 0.1)],
)
def test_without_validation_images_the_middle_strength_is_taken(strengths: tuple[float, ...], middle: float) -> None:
    train, labels = blobs(30, seed=0)
    assert choose_probe(train, labels, l2=strengths, num_classes=3, validation=None).l2 == middle


def test_of_two_classes_the_probabilities_are_scikit_learns() -> None:
    train, labels = blobs(40, seed=0, classes=2)
    found = choose_probe(train, labels, l2=(0.05,), num_classes=2, validation=None)
    reference = LogisticRegression(C=1 / (0.05 * 40)).fit(standardized(train, train).numpy(), labels.numpy())
    wanted = reference.predict_proba(standardized(train, train).numpy())
    np.testing.assert_allclose(found.logits(train).softmax(1).numpy(), wanted, atol=1e-3)


def test_a_class_without_training_images_is_never_predicted() -> None:
    train, labels = blobs(30, seed=0)
    logits = choose_probe(train, labels * 2, l2=(0.1,), num_classes=6, validation=None).logits(train)
    assert logits.isneginf().all(0).tolist() == [False, True, False, True, False, True]
    assert logits[:, ::2].isfinite().all()


def test_a_constant_feature_does_no_harm() -> None:
    train, labels = blobs(30, seed=0)
    train[:, 3] = 7.0
    assert choose_probe(train, labels, l2=(0.1,), num_classes=3, validation=None).logits(train).isfinite().all()


def test_training_images_of_a_single_class_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.subset_file.*two classes"):
        choose_probe(torch.randn(4, 2), torch.ones(4, dtype=torch.int64), l2=(1.0,), num_classes=3, validation=None)


def test_a_fit_that_does_not_converge_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    (train, labels), caplog_level = blobs(30, seed=0), logging.WARNING
    choose_probe(train, labels, l2=(0.1, 1e-3, 1e-2), num_classes=3, validation=(train, labels))
    assert not [record for record in caplog.records if record.levelno >= caplog_level]
    monkeypatch.setattr(probe, "MAX_ITERATIONS", 3)
    choose_probe(train, labels, l2=(100.0, 1e-3, 1e-2), num_classes=3, validation=(train, labels))
    (record,) = [record for record in caplog.records if record.levelno >= caplog_level]
    assert "l2 = 0.01, 0.001" in record.getMessage() and "set larger ones" in record.getMessage()
    assert not recwarn.list


def test_a_fit_uses_one_thread_so_that_its_bits_are_the_same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from threadpoolctl import threadpool_info

    found, fit = [], LogisticRegression.fit

    def recording_fit(self: LogisticRegression, *data: np.ndarray) -> LogisticRegression:
        found.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
        return fit(self, *data)

    monkeypatch.setattr(LogisticRegression, "fit", recording_fit)
    train, labels = blobs(30, seed=0)
    choose_probe(train, labels, l2=(0.1,), num_classes=3, validation=None)
    assert found and set(found) == {1}


def test_a_stop_signal_ends_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler of the alarm after the signal runs between two evaluations of the objective."""

    def fit_for_long(*_: object) -> None:
        interrupt_wait()

    monkeypatch.setattr(LogisticRegression, "fit", fit_for_long)
    features, labels = blobs(60, seed=0)
    with pytest.raises(WaitInterrupted):
        choose_probe(features, labels, l2=(0.1,), num_classes=3, validation=None)


def test_images_too_many_for_scikit_learn_are_refused() -> None:
    config = ProbeConfig(out="unused", init=None)
    assert is_fitted(45_000, 3072, 100, config)
    with pytest.raises(
        UserError, match=r"1281167 training images .* 1000 classes .*common.evaluation linear.*beyond=knn"
    ):
        is_fitted(1_281_167, 384, 1000, config)
    with pytest.raises(
        UserError, match="50000 training images with features of 150528 dimensions take 30 GB.*beyond=knn"
    ):
        is_fitted(50_000, 150_528, 2, config)
    alone = config.model_copy(update={"beyond": "knn"})
    assert not is_fitted(50_000, 150_528, 2, alone) and not is_fitted(700_000, 3072, 1, alone)
