import numpy as np
import pandas as pd
import pytest

from genre import evaluate, models
from genre.errors import DataError, TrainingError, UsageError
from genre.inputs.features import FEATURE_NAMES
from genre.probabilities.tables import genres_of, labels_of, proba_of
from genre.studies import trials


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sixty recordings of two clips in three genres; each recording has a voice of its own, louder than its genre's."""
    rng = np.random.default_rng(0)
    genre = np.repeat(["a", "b", "c"], 40)
    recording = np.repeat(np.arange(60), 2)
    X = rng.normal(size=(120, len(FEATURE_NAMES))) * 0.3
    X[:, :20] += rng.normal(size=(60, 20))[recording]
    X[:, 0] += 1.5 * (genre == "b")
    X[:, 1] += 1.5 * (genre == "c")
    ids = [f"{r}@{n % 2}" for n, r in enumerate(recording)]
    clips = pd.DataFrame({"clip_id": ids, "recording": [f"r{r}" for r in recording], "genre": pd.Categorical(genre)})
    clips["split"] = np.array(["train", "train", "validation", "test"])[recording % 4]
    return clips, pd.DataFrame(X, columns=list(FEATURE_NAMES), index=ids)


@pytest.fixture(scope="module")
def voices(data) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Recordings whose sound is unrelated to their genre: only another clip of the recording predicts it."""
    clips, X = data
    rng = np.random.default_rng(1)
    recording = np.repeat(np.arange(60), 2)
    voice = rng.choice([-1, 1], size=(60, X.shape[1]))[recording] + 0.05 * rng.normal(size=X.shape)
    genre = pd.Categorical(np.array(list("abc"))[recording % 3])
    return clips.assign(genre=genre), pd.DataFrame(voice, columns=X.columns, index=X.index)


def test_a_model_is_fitted_on_training_clips_and_predicts_all(data):
    clips, X = data
    model, table = trials.fit_model("logistic_regression", clips, X)
    assert table.index.tolist() == clips["clip_id"].tolist() and genres_of(table) == ["a", "b", "c"]
    np.testing.assert_allclose(proba_of(table), models.predict_proba("logistic_regression", model, X.to_numpy()))
    wrong = X.copy()
    wrong.iloc[np.flatnonzero(clips["split"] != "train")] = 1e6
    other = trials.fit_model("logistic_regression", clips, wrong)[0]
    np.testing.assert_allclose(other["model"].coef_, model["model"].coef_)


def test_fits_on_some_columns_only(data):
    clips, X = data
    noise = X.copy()
    noise[FEATURE_NAMES[5]] = 1e6
    few = list(FEATURE_NAMES[:3])
    tables = [trials.fit_model("logistic_regression", clips, x, columns=few)[1] for x in (X, noise)]
    pd.testing.assert_frame_equal(*tables)


def test_out_of_fold_models_are_fitted_without_the_recording(data, voices):
    clips, X = data
    table = trials.predict_out_of_fold("logistic_regression", clips, X, seed=1)
    assert table.index.tolist() == clips["clip_id"].tolist()
    whole, X = voices
    torn = whole.assign(recording=whole["clip_id"])
    tables = [trials.predict_out_of_fold("logistic_regression", c, X) for c in (whole, torn)]
    known, leaked = (evaluate.compute_metrics(labels_of(t), proba_of(t), ["a", "b", "c"])["macro_auc"] for t in tables)
    assert known < 0.65 < 0.9 < leaked


def test_a_naive_split_scores_better_than_it_should(voices):
    clips, X = voices
    gaps = trials.split_gap("logistic_regression", clips, X, n_splits=4)
    assert gaps["seed"].tolist() == list(range(4))
    np.testing.assert_allclose(gaps["gap"], gaps["naive"] - gaps["honest"])
    mean, low, high = trials.mean_interval(gaps["gap"])
    assert 0.1 < low < mean < high
    alone = clips.assign(recording=clips["clip_id"])
    assert trials.split_gap("logistic_regression", alone, X, n_splits=2)["gap"].abs().max() == 0


def test_interval_is_students():
    mean, _, high = trials.mean_interval(pd.Series([1.0, 2.0, 3.0]))
    assert (mean, high - mean) == (2.0, pytest.approx(4.302653 / np.sqrt(3), rel=1e-5))
    assert np.isnan(trials.mean_interval(pd.Series([1.0]))[1])


def test_impossible_requests_are_refused(data):
    clips, X = data
    with pytest.raises(UsageError, match=r"mel_cnn takes no features alone; choose from .*svm"):
        trials.fit_model("mel_cnn", clips, X)
    with pytest.raises(TrainingError, match="no training clip"):
        trials.fit_model("logistic_regression", clips.assign(split="test"), X)
    lonely = clips.assign(recording=np.where(clips["genre"] == "c", "one", clips["recording"]))
    for work in (trials.predict_out_of_fold, trials.split_gap):
        with pytest.raises(DataError, match="c has 1 recordings"):
            work("logistic_regression", lonely, X)
