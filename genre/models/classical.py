"""Models on the 97 features, with the paper's hyper-parameters (Bahuleyan 2018, section 5) and its typos corrected.

What scikit-learn fits is scaled to 0 .. 1 inside the model, by the extremes of the training clips only.
"""

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import skops.io
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from skops.io.exceptions import UntrustedTypesFoundException

from genre.errors import DataError, TrainingError
from genre.models import Data, OnEpoch

#: Types beyond skops' own list that a saved model of ours holds; a file with any other is refused.
TRUSTED = {
    "logistic_regression": [],
    "random_forest": ["sklearn.tree._tree.Tree"],
    "svm": ["sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration"],
}


def logistic_regression(
    data: Data,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    C: float = 1.0,
    max_iter: int = 2000,
) -> Pipeline:
    """Multinomial logistic regression.

    The paper's C and penalty (L2). Its scikit-learn of 2018 fitted one genre against the rest with liblinear, which
    also penalised the intercept; today's lbfgs fits one softmax over all genres.

    Parameters
    ----------
    data : Data
        Features and labels.
    seed : int
        Unused: the optimum is unique.
    directory, on_epoch : optional
        Unused: there is nothing to resume.
    C : float
        Inverse strength of the penalty, above 0.
    max_iter : int
        Iterations at most; the default is far beyond what scaled features need.

    Returns
    -------
    Pipeline
        Scaler and model.

    Raises
    ------
    TrainingError
        If a hyper-parameter is out of range or the features are not finite.
    """
    return _fit("logistic_regression", _scaled(LogisticRegression(C=C, max_iter=max_iter)), data)


def random_forest(
    data: Data,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    n_estimators: int = 500,
    min_samples_split: int = 5,
) -> Pipeline:
    """Random forest.

    Parameters
    ----------
    data : Data
        Features and labels.
    seed : int
        Of the bootstrap and of the choice of features.
    directory, on_epoch : optional
        Unused: there is nothing to resume.
    n_estimators : int
        Trees.
    min_samples_split : int
        Clips that a node must hold to be split, at least 2.

    Returns
    -------
    Pipeline
        Scaler and model.

    Raises
    ------
    TrainingError
        If a hyper-parameter is out of range or the features are not finite.
    """
    forest = RandomForestClassifier(n_estimators, min_samples_split=min_samples_split, random_state=seed, n_jobs=-1)
    model = _fit("random_forest", _scaled(forest), data)
    # Threads add up the trees in the order they finish, so that the last digits would differ from call to call.
    return model.set_params(model__n_jobs=1)


def svm(
    data: Data,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    C: float = 10000.0,
    gamma: float = 1 / 97,
    n_folds: int = 5,
) -> CalibratedClassifierCV:
    """Support vector machine with a radial kernel, rare genres weighted up, probabilities calibrated afterwards.

    The published code weighted genres by their frequency, the reverse of what it meant; here the weights balance them.
    The sigmoid calibration is fitted without weights on out-of-fold decisions, which puts the prior right again; no
    recording is in two folds.

    Parameters
    ----------
    data : Data
        Features, labels and recordings.
    seed : int
        Of the dealing of recordings to folds.
    directory, on_epoch : optional
        Unused: there is nothing to resume.
    C : float
        Cost of a misclassified clip, above 0.
    gamma : float
        Of the kernel, above 0; one over the number of features was scikit-learn's default at the time of the paper.
    n_folds : int
        Folds of the calibration, at least 2; fewer if a genre has fewer recordings.

    Returns
    -------
    CalibratedClassifierCV
        Calibration around scaler and machine.

    Raises
    ------
    TrainingError
        If a genre has fewer than two recordings, a hyper-parameter is out of range or the features are not finite.
    """
    machine = _scaled(SVC(C=C, gamma=gamma, class_weight="balanced"))
    folds = _folds(data, n_folds, seed)
    model = _fit("svm", CalibratedClassifierCV(machine, method="sigmoid", cv=folds, ensemble=False), data)
    # Else the positions of all training clips would be saved with the model.
    return model.set_params(cv=None)


def catboost(
    data: Data,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    iterations: int = 500,
    depth: int = 5,
    learning_rate: float = 0.1,
    subsample: float = 0.8,
    border_count: int = 64,
) -> Any:
    """Gradient-boosted trees by CatBoost, in place of the paper's XGBoost and with its hyper-parameters.

    The published code misspelt its subsampling, which was therefore never applied; here it is. The trees are symmetric,
    unlike XGBoost's. They do not depend on the scale of a feature: no scaler.

    Parameters
    ----------
    data : Data
        Features and labels.
    seed : int
        Of the subsampling.
    directory, on_epoch : optional
        Unused: there is nothing to resume.
    iterations : int
        Trees.
    depth : int
        Of each tree, 1 to 16.
    learning_rate : float
        Shrinkage of each tree, above 0 and at most 1.
    subsample : float
        Share of the clips that each tree sees, above 0 and at most 1.
    border_count : int
        Thresholds tried for each feature, 1 to 65535. CatBoost's own 254 take five times as long on a few hundred clips
        and score no better.

    Returns
    -------
    catboost.CatBoostClassifier
        The model.

    Raises
    ------
    TrainingError
        If a hyper-parameter is out of range.
    """
    from catboost import CatBoostClassifier, CatBoostError

    model = CatBoostClassifier(
        loss_function="MultiClass",
        iterations=iterations,
        depth=depth,
        learning_rate=learning_rate,
        subsample=subsample,
        border_count=border_count,
        bootstrap_type="Bernoulli",
        random_seed=seed,
        allow_writing_files=False,
        verbose=False,
    )
    return _fit("catboost", model, data, CatBoostError)


def save(model: Any, path: Path) -> None:
    """Write a model: CatBoost's own format, or skops for scikit-learn; never a pickle."""
    if isinstance(model, BaseEstimator | Pipeline):
        skops.io.dump(model, path)
    else:
        model.save_model(str(path), format="cbm")


def load(name: str, path: Path) -> Any:
    """Read what `save` wrote.

    Raises
    ------
    DataError
        If the file is damaged, or holds a type that a model of that name has no need of.
    """
    if name == "catboost":
        return _load_catboost(path)
    try:
        return skops.io.load(path, trusted=TRUSTED[name])
    except UntrustedTypesFoundException as error:
        raise DataError(f"{path} is not a {name} of this program and was not loaded: {error}") from error
    except BadZipFile as error:
        raise DataError(f"{path} is damaged ({error}); train {name} again") from error


def predict_proba(model: Any, X: Any) -> np.ndarray:
    """Probabilities [shape=(n, k)] of features [shape=(n, 97)]."""
    return np.asarray(model.predict_proba(_matrix(X)))


def importances(model: Any) -> np.ndarray | None:
    """Weight of each feature by the model's own account [shape=(97,)]; None for the SVM, which gives none."""
    if isinstance(model, CalibratedClassifierCV):
        return None
    if not isinstance(model, Pipeline):
        gains = np.asarray(model.get_feature_importance())
        return gains / max(gains.sum(), np.finfo(float).tiny)
    fitted = model["model"]
    return np.abs(fitted.coef_).mean(axis=0) if hasattr(fitted, "coef_") else fitted.feature_importances_


def history(directory: Path) -> None:
    """None: nothing here is trained in epochs."""


def facts(directory: Path) -> dict[str, str]:
    """Nothing: a device or a precision is not chosen here."""
    return {}


def _matrix(X: Any) -> np.ndarray:
    """Features in double precision, so that scaling rounds nothing."""
    return np.asarray(X, dtype=np.float64)


def _scaled(classifier: ClassifierMixin) -> Pipeline:
    """The classifier behind the paper's scaler, which never sees a clip outside training."""
    return Pipeline([("scale", MinMaxScaler()), ("model", classifier)])


def _fit(name: str, model: Any, data: Data, refusal: type[Exception] = ValueError) -> Any:
    """Fit on the training clips; the library's refusal becomes a TrainingError."""
    try:
        return model.fit(_matrix(data.X_train), np.asarray(data.y_train, dtype=np.int64))
    except refusal as error:
        raise TrainingError(f"{name} could not be trained: {error}") from error


def _load_catboost(path: Path) -> Any:
    """A CatBoost model from its file."""
    from catboost import CatBoostClassifier, CatBoostError

    try:
        return CatBoostClassifier().load_model(str(path), format="cbm")
    except CatBoostError as error:
        raise DataError(f"{path} is damaged ({error}); train catboost again") from error


def _folds(data: Data, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """At most `n_folds` splits of the training clips, by recording, every genre in the training part of each."""
    y, recordings = np.asarray(data.y_train), np.asarray(data.recordings_train)
    n_recordings = [len(np.unique(recordings[y == code])) for code in range(len(data.genres))]
    rarest = int(np.argmin(n_recordings))
    for n_splits in range(min(n_folds, n_recordings[rarest]), 1, -1):
        dealer = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
        folds = list(dealer.split(y, y, recordings))
        if all(len(np.unique(y[fitted])) == len(data.genres) for fitted, _ in folds):
            return folds
    raise TrainingError(
        f"svm needs two training recordings or more of each genre to calibrate its probabilities, and two folds; "
        f"{data.genres[rarest]} has {n_recordings[rarest]}, n_folds is {n_folds}; add recordings or leave the model out"
    )
