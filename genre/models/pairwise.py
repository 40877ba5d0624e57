"""Probabilities of all genres from the decisions between every two of them."""

import numpy as np
from joblib import Parallel, delayed
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression

#: A probability between two genres keeps this distance from 0 and 1, as in libSVM: two certainties may contradict.
MIN_PROBABILITY = 1e-7


class PairwiseCalibration(BaseEstimator):
    """Classifier with a sigmoid of its own for the decision between every two classes, coupled into probabilities.

    `sklearn.calibration.CalibratedClassifierCV` calibrates one score per class instead, which for an SVC is a count of
    won pairs: the size of the decisions is lost (on 797 clips of music macro AUC .88 instead of .90).

    Parameters
    ----------
    estimator : ClassifierMixin
        Decides between every two classes: its ``decision_function`` has a column for each pair, in the order of
        `numpy.triu_indices`, or is a vector if there are two classes.
    cv : list of tuple of np.ndarray
        Positions that a fold is fitted on, which have every class, and those that it is not; each position is left out
        by exactly one fold. Used by `fit` only.

    Attributes
    ----------
    classes_ : np.ndarray [shape=(k,)]
        Classes, sorted.
    estimator_ : ClassifierMixin
        Fitted on everything.
    slopes_, intercepts_ : np.ndarray [shape=(k * (k - 1) / 2,)]
        Sigmoid of each pair, from its decision to the probability of the first of the two.
    """

    def __init__(self, estimator: ClassifierMixin, cv: list[tuple[np.ndarray, np.ndarray]] | None = None) -> None:
        self.estimator = estimator
        self.cv = cv

    def fit(self, X: np.ndarray, y: np.ndarray) -> "PairwiseCalibration":
        """Fit the estimator, and the sigmoids on decisions for what it was not fitted on.

        Parameters
        ----------
        X : np.ndarray [shape=(n, m)]
            Features.
        y : np.ndarray [shape=(n,)]
            Classes.
        """
        # The fit on everything takes longest, so it comes first.
        whole = delayed(_fit)(self.estimator, X, y)
        parts = [delayed(_decide_left_out)(self.estimator, X, y, *fold) for fold in self.cv or []]
        self.estimator_, *by_fold = Parallel()([whole, *parts])
        decisions = np.concatenate(by_fold)
        true = y[np.concatenate([left_out for _, left_out in self.cv or []])]
        self.classes_ = np.unique(y)
        sigmoids = [
            _fit_sigmoid(decisions[:, column], true, self.classes_[first], self.classes_[second])
            for column, (first, second) in enumerate(zip(*np.triu_indices(len(self.classes_), 1), strict=True))
        ]
        self.slopes_, self.intercepts_ = np.array(sigmoids).T
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Predict probabilities [shape=(n, k)] of features [shape=(n, m)]."""
        first = expit(self.slopes_ * _decide(self.estimator_, X) + self.intercepts_)
        return couple_pairs(first, len(self.classes_))


def couple_pairs(first: np.ndarray, n_classes: int) -> np.ndarray:
    """Couple probabilities between every two classes into probabilities of all.

    By the second approach of Wu, Lin and Weng 2004 (JMLR 5, 975-1005), p sums to 1 and minimises the sum over all pairs
    of ``(r_ji p_i - r_ij p_j) ** 2``, where r_ij is the probability of i between i and j. That is one linear system per
    row, with a Lagrange multiplier as its last unknown.

    Parameters
    ----------
    first : np.ndarray [shape=(n, n_classes * (n_classes - 1) / 2)]
        Probability of the first class of each pair, in the order of `numpy.triu_indices`, 0 .. 1.
    n_classes : int
        At least 2.

    Returns
    -------
    np.ndarray [shape=(n, n_classes)]
        Rows sum to 1.
    """
    i, j = np.triu_indices(n_classes, 1)
    r = np.zeros((len(first), n_classes, n_classes))
    r[:, i, j] = np.clip(first, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
    r[:, j, i] = 1 - r[:, i, j]
    system = np.ones((len(first), n_classes + 1, n_classes + 1))
    system[:, :-1, :-1] = -r * r.transpose(0, 2, 1)
    diagonal = np.arange(n_classes)
    system[:, diagonal, diagonal] = np.square(r).sum(axis=1)
    system[:, -1, -1] = 0
    right = np.eye(n_classes + 1)[:, -1:]
    proba = np.maximum(np.linalg.solve(system, right)[:, :-1, 0], 0)  # rounding may leave -1e-17
    return proba / proba.sum(axis=1, keepdims=True)


def _fit(estimator: ClassifierMixin, X: np.ndarray, y: np.ndarray) -> ClassifierMixin:
    """Fit a copy of an estimator."""
    return clone(estimator).fit(X, y)


def _decide(fitted: ClassifierMixin, X: np.ndarray) -> np.ndarray:
    """Return the decisions between every two classes, shape (n, k * (k - 1) / 2)."""
    return np.reshape(fitted.decision_function(X), (len(X), -1))


def _decide_left_out(
    estimator: ClassifierMixin, X: np.ndarray, y: np.ndarray, fitted_on: np.ndarray, left_out: np.ndarray
) -> np.ndarray:
    """Fit a copy of an estimator on some rows, and return its decisions for others."""
    return _decide(_fit(estimator, X[fitted_on], y[fitted_on]), X[left_out])


def _fit_sigmoid(decisions: np.ndarray, y: np.ndarray, first: int, second: int) -> tuple[float, float]:
    """Fit slope and intercept of Platt's sigmoid, from decisions to the probability of `first` against `second`.

    Its targets are not 1 and 0, but what Laplace's rule of succession makes of the number of clips (Platt 1999). So two
    classes that no clip contradicts have a finite slope too.
    """
    of_pair = (y == first) | (y == second)
    is_first = y[of_pair] == first
    n_first = is_first.sum()
    target = np.where(is_first, (n_first + 1) / (n_first + 2), 1 / (len(is_first) - n_first + 2))
    spread = decisions[of_pair].std() or 1.0  # scaled by it, the optimum is found whatever C makes of the decisions
    X = decisions[of_pair, np.newaxis] / spread
    # Each clip counts for both classes, by its target.
    model = LogisticRegression(C=np.inf).fit(
        np.concatenate([X, X]),
        np.repeat([True, False], len(X)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    return float(model.coef_[0, 0] / spread), float(model.intercept_[0])
