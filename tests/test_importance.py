import numpy as np
import pytest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from genre.errors import DataError
from genre.importance import _macro_auc, permutation_importances


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 60)
    X = rng.normal(size=(180, 6))
    X[:, 2] += 2 * (y == 1)
    X[:, 4] += y
    return LogisticRegression().fit(X, y), X, y


def test_auc_is_scikit_learns(fitted):
    model, X, y = fitted
    proba = np.stack([model.predict_proba(X), np.round(model.predict_proba(X), 1)])
    expected = [roc_auc_score(y, p, multi_class="ovr", labels=[0, 1, 2]) for p in proba[:1]]
    assert _macro_auc(proba, y)[0] == pytest.approx(expected[0], abs=1e-12)
    tied = np.mean([roc_auc_score(y == k, proba[1][:, k]) for k in range(3)])
    assert _macro_auc(proba, y)[1] == pytest.approx(tied, abs=1e-12)


def test_finds_what_matters_as_scikit_learn_does(fitted):
    model, X, y = fitted
    table = permutation_importances(model.predict_proba, X, y, columns=list("abcdef"), n_repeats=20)
    assert set(table.index[:2]) == {"c", "e"}
    assert (table.loc[list("abdf"), "mean"].abs() < 0.02).all()
    reference = permutation_importance(model, X, y, scoring="roc_auc_ovr", n_repeats=20, random_state=0)
    np.testing.assert_allclose(table.loc[list("abcdef"), "mean"], reference.importances_mean, atol=0.02)


def test_seeded_and_independent_of_the_order_of_columns(fitted):
    model, X, y = fitted
    table = permutation_importances(model.predict_proba, X, y, columns=list("abcdef"), seed=3)
    turned = permutation_importances(
        lambda Z: model.predict_proba(Z[:, ::-1]), X[:, ::-1], y, columns=list("fedcba"), seed=3
    )
    np.testing.assert_allclose(table.loc[list("abcdef")], turned.loc[list("abcdef")], atol=1e-12)


def test_draws_from_many_and_leaves_its_input_alone(fitted):
    model, X, y = fitted
    sizes, before = [], X.copy()

    def predict(Z):
        sizes.append(len(Z))
        return model.predict_proba(Z)

    permutation_importances(predict, X, y, columns=list("abcdef"), n_repeats=2, max_clips=50)
    assert sizes == [50] + 6 * [100]
    np.testing.assert_array_equal(X, before)


def test_absent_genre_and_single_genre(fitted):
    model, X, y = fitted
    two = permutation_importances(model.predict_proba, X[y < 2], y[y < 2], columns=list("abcdef"))
    assert two.index[0] == "c" and two.notna().all(axis=None)
    with pytest.raises(DataError, match="two genres"):
        permutation_importances(model.predict_proba, X[y < 1], y[y < 1], columns=list("abcdef"))
