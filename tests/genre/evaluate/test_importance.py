import numpy as np
import pytest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from genre.errors import DataError, UsageError
from genre.evaluate import importance
from genre.evaluate.importance import (
    _macro_auc,
    ablation_subsets,
    group_by_feature,
    permutation_importances,
    shap_values,
)
from genre.inputs.features import FAMILIES, FEATURE_NAMES, PUBLISHED_FEATURE_NAMES


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 60)
    X = rng.normal(size=(180, 6))
    X[:, 2] += 2 * (y == 1)
    X[:, 4] += y
    return LogisticRegression().fit(X, y), X, y


def test_macro_auc_equals_that_of_scikit_learn(fitted):
    model, X, y = fitted
    proba = np.stack([model.predict_proba(X), np.round(model.predict_proba(X), 1)])
    expected = [roc_auc_score(y, p, multi_class="ovr", labels=[0, 1, 2]) for p in proba[:1]]
    assert _macro_auc(proba, y)[0] == pytest.approx(expected[0], abs=1e-12)
    tied = np.mean([roc_auc_score(y == k, proba[1][:, k]) for k in range(3)])
    assert _macro_auc(proba, y)[1] == pytest.approx(tied, abs=1e-12)


def test_importances_equal_those_of_scikit_learn(fitted):
    model, X, y = fitted
    table = permutation_importances(model.predict_proba, X, y, columns=list("abcdef"), n_repeats=20)
    assert set(table.index[:2]) == {"c", "e"}
    assert (table.loc[list("abdf"), "mean"].abs() < 0.02).all()
    reference = permutation_importance(model, X, y, scoring="roc_auc_ovr", n_repeats=20, random_state=0)
    np.testing.assert_allclose(table.loc[list("abcdef"), "mean"], reference.importances_mean, atol=0.02)


def test_importances_do_not_depend_on_the_order_of_columns(fitted):
    model, X, y = fitted
    table = permutation_importances(model.predict_proba, X, y, columns=list("abcdef"), seed=3)
    reversed_table = permutation_importances(
        lambda Z: model.predict_proba(Z[:, ::-1]), X[:, ::-1], y, columns=list("fedcba"), seed=3
    )
    np.testing.assert_allclose(table.loc[list("abcdef")], reversed_table.loc[list("abcdef")], atol=1e-12)


def test_at_most_max_clips_are_used_and_the_input_is_left_unchanged(fitted):
    model, X, y = fitted
    sizes = []
    before = X.copy()

    def predict(Z):
        sizes.append(len(Z))
        return model.predict_proba(Z)

    permutation_importances(predict, X, y, columns=list("abcdef"), n_repeats=2, max_clips=50)
    assert sizes == [50, 600]
    np.testing.assert_array_equal(X, before)


def test_many_groups_are_predicted_some_at_a_time_with_the_same_result(fitted, monkeypatch):
    model, X, y = fitted
    sizes = []

    def predict(Z):
        sizes.append(len(Z))
        return model.predict_proba(Z)

    at_once = permutation_importances(predict, X, y, columns=list("abcdef"))
    monkeypatch.setattr(importance, "MAX_ROWS", 2000)
    assert permutation_importances(predict, X, y, columns=list("abcdef")).equals(at_once)
    monkeypatch.setattr(importance, "MAX_ROWS", 1)
    assert permutation_importances(predict, X, y, columns=list("abcdef")).equals(at_once)
    # 4,096 rows hold four groups of 900
    assert sizes == [180, 3600, 1800, 180, 1800, 1800, 1800, 180, *6 * [900]]


def test_a_genre_without_clips_is_left_out_and_a_single_genre_refused(fitted):
    model, X, y = fitted
    two = permutation_importances(model.predict_proba, X[y < 2], y[y < 2], columns=list("abcdef"))
    assert two.index[0] == "c" and two.notna().all(axis=None)
    with pytest.raises(DataError, match="two genres"):
        permutation_importances(model.predict_proba, X[y < 1], y[y < 1], columns=list("abcdef"))


def test_redundant_features_hide_each_other_until_they_are_permuted_together(fitted):
    _, X, y = fitted
    X_twins = np.column_stack([X[:, 2], X[:, 2], X[:, 0]])
    model = LogisticRegression().fit(X_twins, y)
    separate = permutation_importances(model.predict_proba, X_twins, y, columns=["a_mean", "a_std", "b"])
    groups = group_by_feature(["a_mean", "a_std", "b"])
    together = permutation_importances(
        model.predict_proba, X_twins, y, columns=["a_mean", "a_std", "b"], groups=groups, n_repeats=20
    )
    assert set(together.index) == {"a", "b"}
    assert together.loc["a", "mean"] > 1.5 * separate["mean"].max()
    # Rows are permuted as a whole: a group of all columns leaves nothing but chance.
    everything = dict.fromkeys(groups, "all")
    whole = permutation_importances(
        model.predict_proba, X_twins, y, columns=list(groups), groups=everything, n_repeats=40
    )
    baseline = roc_auc_score(y, model.predict_proba(X_twins), multi_class="ovr")
    assert whole.loc["all", "mean"] == pytest.approx(baseline - 0.5, abs=0.02)


def test_a_group_is_permuted_as_whole_rows(fitted):
    model, X, y = fitted
    rows = {tuple(row) for row in X[:, :3]}

    def predict(Z):
        moved = (Z[:, :3] != np.resize(X[:, :3], (len(Z), 3))).any(axis=1)
        assert len(Z) == len(X) or not moved.any() or {tuple(row) for row in Z[:, :3]} <= rows
        return model.predict_proba(Z)

    groups = dict(zip("abcdef", "xxxyyy", strict=True))
    table = permutation_importances(predict, X, y, columns=list("abcdef"), groups=groups)
    assert set(table.index) == {"x", "y"} and (table["mean"] > 0).all()


def test_every_column_has_a_feature_and_a_column_without_group_is_refused():
    features = group_by_feature(PUBLISHED_FEATURE_NAMES)
    assert features["mfccs_20_std"] == "mfccs_20" and features["tempo"] == "tempo"
    assert len(set(features.values())) == 50  # signal_mean and signal_std are one, tempo is alone
    with pytest.raises(UsageError, match="'b' is in no group"):
        permutation_importances(lambda X: X, np.eye(4), np.array([0, 1, 0, 1]), columns=list("abcd"), groups={"a": "x"})


def test_shap_values_find_the_feature_and_its_genre(fitted):
    from catboost import CatBoostClassifier

    _, X, y = fitted
    model = CatBoostClassifier(
        loss_function="MultiClass", iterations=30, depth=3, verbose=False, allow_writing_files=False
    )
    model.fit(X, y)
    table = shap_values(model, X, columns=list("abcdef"), genres=["p", "q", "r"])
    assert list(table.columns) == ["p", "q", "r"] and set(table.index[:2]) == {"c", "e"}
    assert table.loc["c"].idxmax() == "q"
    with pytest.raises(UsageError, match="2 genres"):
        shap_values(model, X, columns=list("abcdef"), genres=["p", "q"])


def test_ablation_subsets_are_those_of_the_paper():
    subsets = ablation_subsets(PUBLISHED_FEATURE_NAMES[::-1])
    assert {name: len(columns) for name, columns in subsets.items()} == {
        "all features": 97,
        "time domain": 9,
        "frequency domain": 88,
        "top 10": 10,
        "top 20": 20,
        "top 30": 30,
    }
    assert subsets["time domain"] == list(PUBLISHED_FEATURE_NAMES[:9])
    assert subsets["top 10"] == list(PUBLISHED_FEATURE_NAMES[-10:])
    with pytest.raises(UsageError, match="twice"):
        ablation_subsets([*FEATURE_NAMES, "zcr_mean"])
    with pytest.raises(UsageError, match="'loudness'"):
        ablation_subsets(["loudness", *FEATURE_NAMES])


def test_ablations_of_a_table_that_lacks_a_feature_are_of_the_others():
    subsets = ablation_subsets(FEATURE_NAMES[1:])
    assert subsets["all features"] == list(FEATURE_NAMES[1:])
    assert subsets["time domain"] == [name for name in FEATURE_NAMES[1:] if FAMILIES[name] in importance.TIME_DOMAIN]
