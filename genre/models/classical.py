"""Models on the 97 features, with the paper's hyper-parameters (Bahuleyan 2018, section 5) and its typos corrected.

What scikit-learn fits is scaled to 0 .. 1 inside the model, by the extremes of the training clips only.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import skops.io
from joblib import cpu_count, parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.svm import SVC
from skops.io.exceptions import UntrustedTypesFoundException
from threadpoolctl import threadpool_limits

from genre import folds
from genre.errors import DataError, TrainingError, UsageError
from genre.files import read_json, write_json
from genre.models import OnEpoch, TrainingData

#: Types beyond skops' own list that a saved model of ours holds; a file with any other is refused.
TRUSTED_TYPES = {
    "logistic_regression": [],
    "random_forest": ["sklearn.tree._tree.Tree"],
    "svm": ["sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration"],
}

#: What can fit the SVM; both leave the same kind of model. The second is the extra ``accelerated``.
SKLEARN, INTELEX = "scikit-learn", "scikit-learn-intelex"

#: From so many clips on, two folds calibrate the SVM as well as five. Two and five at 5,000 clips of a table like the
#: paper's: AUC .8367 and .8366, log-loss 1.366 and 1.366; at 2,000 published ones .812 and .813, 1.035 and 1.029.
MIN_CLIPS_TWO_FOLDS = 5000

#: From so many clips on the accelerator pays: at 4,000 it took half as much again as libSVM, at 36,486 a third.
MIN_CLIPS_INTELEX = 20_000

#: What an SVM has learnt, by the names scikit-learn predicts from.
FITTED_ATTRIBUTES = (
    *("support_", "support_vectors_", "_n_support", "dual_coef_", "_dual_coef_", "intercept_", "_intercept_"),
    *("class_weight_", "n_iter_"),
)

#: Of kernel values that libSVM keeps, where its own 200 are too few for two frequent genres; filled as needed.
KERNEL_CACHE_MB = 1000


def train_logistic_regression(
    data: TrainingData,
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
    # The matrices are too narrow to be shared out: more threads of BLAS wait for each other, and round differently.
    with threadpool_limits(1, "blas"):
        return _fit_model("logistic_regression", _with_scaler(LogisticRegression(C=C, max_iter=max_iter)), data)


def train_random_forest(
    data: TrainingData,
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
    model = _fit_model("random_forest", _with_scaler(forest), data)
    # Threads add up the trees in the order they finish, so that the last digits would differ from call to call.
    return model.set_params(model__n_jobs=1)


def train_svm(
    data: TrainingData,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    C: float = 10000.0,
    gamma: float = 1 / 97,
    n_folds: int = 0,
    engine: str = "auto",
) -> CalibratedClassifierCV:
    """Support vector machine with a radial kernel, rare genres weighted up, probabilities calibrated afterwards.

    The published code weighted genres by their frequency, the reverse of what it meant; here the weights balance them.
    The sigmoid calibration is fitted without weights on out-of-fold decisions, which puts the prior right again; no
    recording is in two folds. Folds are fitted side by side, one a core.

    Parameters
    ----------
    data : Data
        Features, labels and recordings.
    seed : int
        Of the dealing of recordings to folds.
    directory : Path, optional
        Where `training_facts` finds which engine fitted it and how many folds calibrated it.
    on_epoch : optional
        Unused: there are no epochs.
    C : float
        Cost of a misclassified clip, above 0.
    gamma : float
        Of the kernel, above 0; one over the number of features was scikit-learn's default at the time of the paper.
    n_folds : int
        Folds of the calibration, at least 2; 0 for five, or two from `MIN_CLIPS_TWO_FOLDS` clips on. Fewer if a genre
        has fewer recordings.
    engine : {"auto", "scikit-learn", "scikit-learn-intelex"}
        What solves it. The second is the same optimisation to the same tolerance on all cores, and needs the extra
        ``accelerated``; "auto" takes it from `MIN_CLIPS_INTELEX` clips on where it is installed. Decisions and
        calibration are scikit-learn's either way, and so is the model, which is saved, loaded and run without the
        extra.

    Returns
    -------
    CalibratedClassifierCV
        Calibration around scaler and machine.

    Raises
    ------
    UsageError
        If the engine is unknown.
    TrainingError
        If a genre has fewer than two recordings, a hyper-parameter is out of range, the features are not finite or the
        engine is not installed.
    """
    chosen = _choose_engine(engine, len(data.y_train))
    parts = _calibration_folds(data, n_folds or (5 if len(data.y_train) < MIN_CLIPS_TWO_FOLDS else 2), seed)
    kind = _IntelexSVC if chosen == INTELEX else SVC
    machine = _with_scaler(kind(C=C, gamma=gamma, class_weight="balanced", cache_size=KERNEL_CACHE_MB))
    # libSVM runs on one core and lets other threads run; the accelerator takes all cores for each fold.
    with parallel_config("threading", n_jobs=1 if chosen == INTELEX else -1):
        model = _fit_model("svm", CalibratedClassifierCV(machine, method="sigmoid", cv=parts, ensemble=False), data)
    for pipeline in (model.estimator, model.calibrated_classifiers_[0].estimator):
        pipeline.set_params(model=_as_plain_svc(pipeline["model"]))
    if directory:
        write_json(directory / "facts.json", {"engine": _engine_version(chosen), "calibration_folds": str(len(parts))})
    # Else the positions of all training clips would be saved with the model.
    return model.set_params(cv=None)


def train_catboost(
    data: TrainingData,
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
        # What affinity and control group allow this process, as for the forest.
        thread_count=cpu_count(),
        allow_writing_files=False,
        verbose=False,
    )
    return _fit_model("catboost", model, data, CatBoostError)


def save_model(model: Any, path: Path) -> None:
    """Write a model: CatBoost's own format, or skops for scikit-learn; never a pickle."""
    if isinstance(model, BaseEstimator | Pipeline):
        skops.io.dump(model, path)
    else:
        model.save_model(str(path), format="cbm")


def load_model(name: str, path: Path) -> Any:
    """Read what `save_model` wrote.

    Raises
    ------
    DataError
        If the file is damaged, or holds a type that a model of that name has no need of.
    """
    if name == "catboost":
        return _load_catboost(path)
    try:
        return skops.io.load(path, trusted=TRUSTED_TYPES[name])
    except UntrustedTypesFoundException as error:
        raise DataError(f"{path} is not a {name} of this program and was not loaded: {error}") from error
    except BadZipFile as error:
        raise DataError(f"{path} is damaged ({error}); train {name} again") from error


def predict_proba(model: Any, X: Any) -> np.ndarray:
    """Probabilities [shape=(n, k)] of features [shape=(n, 97)]."""
    return np.asarray(model.predict_proba(_as_float64(X)))


def feature_importances(model: Any) -> np.ndarray | None:
    """Weight of each feature by the model's own account [shape=(97,)]; None for the SVM, which gives none."""
    if isinstance(model, CalibratedClassifierCV):
        return None
    if not isinstance(model, Pipeline):
        gains = np.asarray(model.get_feature_importance())
        return gains / max(gains.sum(), np.finfo(float).tiny)
    fitted = model["model"]
    return np.abs(fitted.coef_).mean(axis=0) if hasattr(fitted, "coef_") else fitted.feature_importances_


def training_history(directory: Path) -> None:
    """None: nothing here is trained in epochs."""


def training_facts(directory: Path) -> dict[str, str]:
    """Of an SVM, ``engine`` (library and version that fitted it) and ``calibration_folds``; of others nothing."""
    return read_json(directory / "facts.json") or {}


def _as_float64(X: Any) -> np.ndarray:
    """Features in double precision, so that scaling rounds nothing."""
    return np.asarray(X, dtype=np.float64)


def _with_scaler(classifier: ClassifierMixin) -> Pipeline:
    """The classifier behind the paper's scaler, which never sees a clip outside training."""
    return Pipeline([("scale", MinMaxScaler()), ("model", classifier)])


def _fit_model(name: str, model: Any, data: TrainingData, refusal: type[Exception] = ValueError) -> Any:
    """Fit on the training clips; the library's refusal becomes a TrainingError."""
    try:
        return model.fit(_as_float64(data.X_train), np.asarray(data.y_train, dtype=np.int64))
    except refusal as error:
        raise TrainingError(f"{name} could not be trained: {error}") from error


def _load_catboost(path: Path) -> Any:
    """A CatBoost model from its file."""
    from catboost import CatBoostClassifier, CatBoostError

    try:
        return CatBoostClassifier().load_model(str(path), format="cbm")
    except CatBoostError as error:
        raise DataError(f"{path} is damaged ({error}); train catboost again") from error


def _choose_engine(requested: str, n_clips: int) -> str:
    """Library that is to fit the SVM."""
    installed = find_spec("sklearnex") is not None
    if requested == "auto":
        return INTELEX if installed and n_clips >= MIN_CLIPS_INTELEX else SKLEARN
    if requested not in (SKLEARN, INTELEX):
        raise UsageError(f"unknown engine {requested!r} of the svm; choose from auto, {SKLEARN}, {INTELEX}")
    if requested == INTELEX and not installed:
        install = 'pip install -c requirements.txt -e ".[accelerated]"'
        raise TrainingError(f"svm: {INTELEX} is not installed; install it with: {install}, or leave engine at auto")
    return requested


def _engine_version(engine: str) -> str:
    """The library with its version."""
    return f"{engine} {version(engine)}"


class _IntelexSVC(SVC):
    """scikit-learn's machine, fitted by the accelerator.

    Only fitted: the accelerator's own decisions between two of several genres were off by hundreds in some calls and
    not in others (2026.2.0), where libSVM's from the very same support vectors are right.
    """

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: None = None) -> "_IntelexSVC":
        """Fit; nothing of scikit-learn is patched."""
        from sklearnex.svm import SVC as Accelerator

        asked = {name: getattr(self, name) for name in ("C", "gamma", "class_weight", "cache_size")}
        machine = Accelerator(**asked).fit(X, y)
        first = np.concatenate([[0], np.cumsum(machine.n_support_)[:-1]])
        # A fit of one clip a genre sets what only scikit-learn knows of; then what was learnt takes its place, in the
        # types and the order in memory that libSVM reads.
        super().fit(machine.support_vectors_[first], machine.classes_)
        for name in FITTED_ATTRIBUTES:
            learnt = np.ascontiguousarray(getattr(machine, name), dtype=getattr(self, name).dtype)
            setattr(self, name, learnt)
        self.shape_fit_ = machine.shape_fit_
        return self


def _as_plain_svc(machine: SVC) -> SVC:
    """The same machine in scikit-learn's own class, whatever fitted it."""
    plain = SVC(**machine.get_params())
    vars(plain).update(vars(machine))
    return plain


def _calibration_folds(data: TrainingData, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """At most `n_folds` splits of the training clips, by recording, every genre in the training part of each."""
    genre = pd.Series(pd.Categorical.from_codes(np.asarray(data.y_train, dtype=int), pd.Index(data.genres)))
    fold = folds.assign_folds(genre, data.recordings_train, n_folds, seed)
    if fold is None:
        n_recordings = folds.count_recordings(genre, data.recordings_train)
        raise TrainingError(
            "svm needs two training recordings or more of each genre to calibrate its probabilities, and two folds; "
            f"{n_recordings.index[0]} has {n_recordings.iloc[0]}, n_folds is {n_folds}; "
            "add recordings or leave the model out"
        )
    return [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(fold.max() + 1)]
