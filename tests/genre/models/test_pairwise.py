import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC

from genre.models.pairwise import PairwiseCalibration, _fit_sigmoid, couple_pairs


def blobs(n_classes: int, n: int = 60, distance: float = 2.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, `n` of each, on eight columns."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(n_classes), n)
    return rng.normal(size=(len(y), 8)) + distance * np.eye(n_classes, 8)[y], y


def calibrated(X: np.ndarray, y: np.ndarray, **options: float) -> PairwiseCalibration:
    cv = list(StratifiedKFold(3, shuffle=True, random_state=0).split(X, y))
    return PairwiseCalibration(SVC(decision_function_shape="ovo", **options), cv).fit(X, y)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_consistent_pairs_give_back_their_probabilities(n_classes):
    p = np.random.default_rng(0).dirichlet(np.ones(n_classes), 20)
    i, j = np.triu_indices(n_classes, 1)
    np.testing.assert_allclose(couple_pairs(p[:, i] / (p[:, i] + p[:, j]), n_classes), p, atol=1e-6)


def test_pairs_that_contradict_each_other_are_coupled_by_the_least_squares_of_wu_lin_and_weng():
    rng = np.random.default_rng(0)
    i, j = np.triu_indices(4, 1)
    first = rng.uniform(0.02, 0.98, (5, 6))
    for r, p in zip(first, couple_pairs(first, 4), strict=True):

        def loss(p, r=r):
            return np.square((1 - r) * p[i] - r * p[j]).sum()

        best = minimize(
            loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda p: p.sum() - 1}
        )
        assert loss(p) == pytest.approx(best.fun, abs=1e-6)
        assert p == pytest.approx(best.x, abs=1e-3)


def test_certain_pairs_give_probabilities_even_in_a_circle():
    """Each of three classes surely beats the next: none is likelier than another."""
    circle = couple_pairs(np.array([[1.0, 0.0, 1.0]]), 3)
    np.testing.assert_allclose(circle, 1 / 3, atol=1e-6)
    certain = couple_pairs(np.array([[1.0, 1.0, 0.5]]), 3)
    assert np.isfinite(certain).all() and certain[0, 0] > 0.999


def test_one_clip_and_many_get_the_same_digits():
    first = np.random.default_rng(0).random((50, 10))
    np.testing.assert_array_equal(couple_pairs(first[7:8], 5)[0], couple_pairs(first, 5)[7])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_probabilities_of_others_are_calibrated_and_rank_them(n_classes):
    model = calibrated(*blobs(n_classes))
    X, y = blobs(n_classes, n=300, seed=1)
    proba = model.predict_proba(X)
    assert proba.sum(axis=1) == pytest.approx(1)
    assert abs(proba.mean(axis=0) - 1 / n_classes).max() < 0.05
    assert log_loss(y, proba) < 0.6 * np.log(n_classes)
    right = proba.argmax(axis=1) == y
    assert proba.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.06)
    if n_classes == 2:
        assert roc_auc_score(y, proba[:, 1]) > 0.9


def test_names_of_classes_in_any_order_only_permute_the_columns():
    X, y = blobs(4)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        calibrated(X, order[y]).predict_proba(X)[:, order], calibrated(X, y).predict_proba(X), atol=0.02
    )


def test_separable_classes_have_a_finite_sigmoid():
    """No left-out clip lies on the wrong side; without Platt's targets the slope would grow without end."""
    X, y = blobs(3, distance=40.0)
    model = calibrated(X, y, kernel="linear")
    assert np.isfinite(model.slopes_).all()
    proba = model.predict_proba(X)
    assert (proba.argmax(axis=1) == y).all()
    assert 0.9 < proba.max(axis=1).min() < 1


def test_a_sigmoid_does_not_depend_on_the_unit_of_the_decisions():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 100)
    decisions = rng.normal(size=300) + (y == 1)
    slope, intercept = _fit_sigmoid(decisions, y, 1, 2)
    small = _fit_sigmoid(1e-4 * decisions, y, 1, 2)
    assert small == pytest.approx((1e4 * slope, intercept), rel=1e-6)
    assert slope > 0


def test_decisions_that_are_all_equal_give_the_share_of_the_clips():
    y = np.repeat([0, 1], [30, 10])
    slope, intercept = _fit_sigmoid(np.zeros(40), y, 0, 1)
    assert np.isfinite(slope)
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(0.75, abs=0.02)
