"""Models on features: those of the paper (Bahuleyan 2018, section 5), with hyper-parameters measured on music.

The scikit-learn models scale each column, by the training clips only. `PAPER_PARAMS` has the paper's hyper-parameters
where ours differ.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from joblib import cpu_count, parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from genre import folds
from genre.errors import DataError, TrainingError, UsageError
from genre.files import read_json, write_json
from genre.models import OnEpoch, TrainingData
from genre.models.pairwise import PairwiseCalibration

#: Types in our saved models beyond those that skops trusts; a file with any other type is refused.
TRUSTED_TYPES = {
    "logistic_regression": [],
    "random_forest": ["sklearn.tree._tree.Tree"],
    "svm": [
        "genre.models.pairwise.PairwiseCalibration",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
    ],
}

#: Hyper-parameters of the variant ``paper`` that differ from the defaults, by model.
PAPER_PARAMS: dict[str, dict[str, Any]] = {
    "logistic_regression": {"C": 1.0, "scaling": "minmax"},
    # one over the 97 features was scikit-learn's default when the paper appeared
    "svm": {"C": 10000.0, "gamma": 1 / 97, "scaling": "minmax", "calibration": "genre"},
    "catboost": {"rsm": 1.0},
}

#: Scaler of each column: to mean 0 and deviation 1, or to 0 .. 1 as in the published code.
SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler}

#: Engines that fit the SVM; both give the same kind of model. The second is installed by the extra ``accelerated``.
SKLEARN = "scikit-learn"
INTELEX = "scikit-learn-intelex"

#: From this number of clips on, two folds calibrate the SVM as well as five. Two and five folds at 5,000 clips of a
#: table like the paper's: AUC .8367 and .8366, log-loss 1.366 and 1.366; at 2,000 clips of the published table .812 and
#: .813, 1.035 and 1.029.
MIN_CLIPS_TWO_FOLDS = 5000

#: From this number of clips on, scikit-learn-intelex pays: at 4,000 clips it took half as long again as libSVM, at
#: 36,486 a third of the time.
MIN_CLIPS_INTELEX = 20_000

#: From this number of clips on, CatBoost fits with several threads, which give the same trees. On fewer they mostly
#: wait for each other: on 294 clips of 523 columns two took 1.15 times the processor time of one, on 3,000 1.25 times.
MIN_CLIPS_CATBOOST_THREADS = 3000

#: Attributes of a fitted SVC from which scikit-learn predicts.
FITTED_ATTRIBUTES = (
    "support_",
    "support_vectors_",
    "_n_support",
    "dual_coef_",
    "_dual_coef_",
    "intercept_",
    "_intercept_",
    "class_weight_",
    "n_iter_",
)

#: Cache of kernel values in libSVM, filled as needed; its default of 200 MB is too small for two frequent genres.
KERNEL_CACHE_MB = 1000


def train_logistic_regression(
    data: TrainingData,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    C: float = 0.01,
    scaling: str = "standard",
    max_iter: int = 2000,
) -> Pipeline:
    """Train a multinomial logistic regression.

    The penalty (L2) is the paper's. Its scikit-learn of 2018 fitted one genre against all others with liblinear, which
    also penalised the intercept; today's lbfgs fits one softmax over all genres.

    Parameters
    ----------
    data : TrainingData
        Features and labels.
    seed : int
        Unused: the optimum is unique.
    directory, on_epoch : optional
        Unused: there is nothing to resume.
    C : float
        Inverse strength of the penalty, above 0.
    scaling : {"standard", "minmax"}
        One of `SCALERS`.
    max_iter : int
        Maximum of iterations; the default is far more than scaled features need.

    Returns
    -------
    Pipeline
        Scaler and model.

    Raises
    ------
    UsageError
        If the scaling is unknown.
    TrainingError
        If a hyper-parameter is out of range or the features are not finite.
    """
    # The matrices are too narrow to parallelise: more BLAS threads would wait for each other, and round differently.
    with threadpool_limits(1, "blas"):
        model = _with_scaler(LogisticRegression(C=C, max_iter=max_iter), scaling)
        return _fit_model("logistic_regression", model, data)


def train_random_forest(
    data: TrainingData,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    n_estimators: int = 500,
    min_samples_split: int = 5,
) -> Pipeline:
    """Train a random forest.

    Parameters
    ----------
    data : TrainingData
        Features and labels.
    seed : int
        Seed of the bootstrap and of the choice of features.
    directory, on_epoch : optional
        Unused: there is nothing to resume.
    n_estimators : int
        Number of trees.
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
    model = _fit_model("random_forest", _with_scaler(forest, "minmax"), data)
    # Threads add up the trees in the order in which they finish, so the last digits would differ from call to call.
    return model.set_params(model__n_jobs=1)


def train_svm(
    data: TrainingData,
    seed: int,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    *,
    C: float = 10.0,
    gamma: float = 0.0,
    scaling: str = "standard",
    calibration: str = "pair",
    n_folds: int = 0,
    engine: str = "auto",
) -> PairwiseCalibration | CalibratedClassifierCV:
    """Train a support vector machine with a radial kernel, rare genres weighted up, and calibrate its probabilities.

    The published code weighted genres by their frequency, the reverse of its intention; here the weights balance them.
    The sigmoids of the calibration are fitted without weights on out-of-fold decisions, which restores the prior; no
    recording is in two folds. Fits run in parallel, one per core.

    Parameters
    ----------
    data : TrainingData
        Features, labels and recordings.
    seed : int
        Seed of the assignment of recordings to folds.
    directory : Path, optional
        Folder in which engine and number of calibration folds are recorded, for `training_facts`.
    on_epoch : optional
        Unused: there are no epochs.
    C : float
        Cost of a misclassified clip, above 0.
    gamma : float
        Kernel coefficient; 0 for one over the number of columns that are not constant, which is scikit-learn's "scale"
        for columns of deviation 1.
    scaling : {"standard", "minmax"}
        One of `SCALERS`.
    calibration : {"pair", "genre"}
        A sigmoid per pair of genres, coupled, or one per genre as in the published code.
    n_folds : int
        Folds of the calibration, at least 2; 0 for five, or two from `MIN_CLIPS_TWO_FOLDS` clips on. Fewer if a genre
        has fewer recordings.
    engine : {"auto", "scikit-learn", "scikit-learn-intelex"}
        Library that fits it. scikit-learn-intelex solves the same optimisation to the same tolerance on all cores, and
        needs the extra ``accelerated``; "auto" uses it from `MIN_CLIPS_INTELEX` clips on if it is installed. Decisions
        and calibration are scikit-learn's in both cases, and so is the model, which is saved, loaded and run without
        the extra.

    Returns
    -------
    PairwiseCalibration or CalibratedClassifierCV
        Calibration of a pipeline of scaler and SVC.

    Raises
    ------
    UsageError
        If the engine, the scaling or the calibration is unknown.
    TrainingError
        If a genre has fewer than two recordings, a hyper-parameter is out of range, the features are not finite or the
        engine is not installed.
    """
    n_clips = len(data.y_train)
    engine = _choose_engine(engine, n_clips)
    cv = _calibration_folds(data, n_folds or (5 if n_clips < MIN_CLIPS_TWO_FOLDS else 2), seed)
    svc_class = _IntelexSVC if engine == INTELEX else SVC
    svc = svc_class(
        C=C, gamma=gamma or _default_gamma(data.X_train), class_weight="balanced", cache_size=KERNEL_CACHE_MB
    )
    unfitted = _with_calibration(_with_scaler(svc, scaling), calibration, cv)
    # libSVM runs on one core and releases the GIL; scikit-learn-intelex uses all cores for each fold.
    with parallel_config("threading", n_jobs=1 if engine == INTELEX else -1):
        model = _fit_model("svm", unfitted, data)
    for pipeline in (model.estimator, _calibrated_pipeline(model)):
        pipeline.set_params(model=_as_plain_svc(pipeline["model"]))
    if directory:
        write_json(directory / "facts.json", {"engine": _engine_version(engine), "calibration_folds": str(len(cv))})
    # With its folds, the model would be saved with the positions of all training clips.
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
    rsm: float = 0.07,
) -> Any:
    """Train gradient-boosted trees by CatBoost, in place of the paper's XGBoost and with its hyper-parameters.

    The published code misspelt the parameter of its subsampling, which was never applied; here it is. The trees are
    symmetric, unlike XGBoost's. They do not depend on the scale of a feature, so there is no scaler.

    Parameters
    ----------
    data : TrainingData
        Features and labels.
    seed : int
        Seed of the subsampling.
    directory, on_epoch : optional
        Unused: there is nothing to resume.
    iterations : int
        Number of trees.
    depth : int
        Depth of each tree, 1 to 16.
    learning_rate : float
        Shrinkage of each tree, above 0 and at most 1.
    subsample : float
        Share of the clips that each tree is fitted on, above 0 and at most 1.
    border_count : int
        Thresholds tried per feature, 1 to 65535. CatBoost's default of 254 takes five times as long on a few hundred
        clips and scores no better.
    rsm : float
        Share of the columns that each split is chosen from, above 0 and at most 1. By folds, 0.07 scored as well as
        0.15, 0.3 and 1 or better, on 97 columns and on 523 (macro AUC .911 on those, .904 with 0.15), the fastest.

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
        rsm=rsm,
        bootstrap_type="Bernoulli",
        random_seed=seed,
        thread_count=_catboost_threads(len(data.y_train)),
        allow_writing_files=False,
        verbose=False,
    )
    return _fit_model("catboost", model, data, CatBoostError)


def save_model(model: Any, path: Path) -> None:
    """Write a model, in CatBoost's own format or, for scikit-learn, with skops; never as a pickle."""
    if isinstance(model, BaseEstimator | Pipeline):
        from skops.io import dump  # imports all of scikit-learn, and hyper-parameters are asked for without it

        dump(model, path)
    else:
        model.save_model(str(path), format="cbm")


def load_model(name: str, path: Path) -> Any:
    """Load a model from `save_model`.

    Raises
    ------
    DataError
        If the file is damaged, or holds a type that a model of that name does not need.
    """
    if name == "catboost":
        return _load_catboost(path)
    from skops.io import load
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return load(path, trusted=TRUSTED_TYPES.get(name, []))
    except UntrustedTypesFoundException as error:
        raise DataError(f"{path} holds more than a {name} and was not loaded: {error}") from error
    except BadZipFile as error:
        raise DataError(f"{path} is damaged ({error}); train {name} again") from error


def predict_proba(model: Any, X: Any) -> np.ndarray:
    """Return probabilities [shape=(n, k)] of features [shape=(n, m)]."""
    return np.asarray(model.predict_proba(_as_float64(X)))


def feature_importances(model: Any) -> np.ndarray | None:
    """Return the model's own importance of each feature [shape=(m,)]; None for a model without, such as the SVM."""
    fitted = model["model"] if isinstance(model, Pipeline) else model
    if hasattr(fitted, "coef_"):
        return np.abs(fitted.coef_).mean(axis=0)
    if hasattr(fitted, "get_feature_importance"):  # CatBoost, whose `feature_importances_` is lost by saving
        gains = np.asarray(fitted.get_feature_importance())
        return gains / max(gains.sum(), np.finfo(float).tiny)
    return getattr(fitted, "feature_importances_", None)


def training_history(directory: Path) -> None:
    """Return None: no model here is trained in epochs."""


def training_facts(directory: Path) -> dict[str, str]:
    """Return ``engine`` (library and version that fitted it) and ``calibration_folds`` of an SVM; {} for others."""
    return read_json(directory / "facts.json") or {}


def _as_float64(X: Any) -> np.ndarray:
    """Convert features to double precision, so that scaling rounds nothing."""
    return np.asarray(X, dtype=np.float64)


def _with_scaler(classifier: ClassifierMixin, scaling: str) -> Pipeline:
    """Put a scaler, fitted on training clips only, before a classifier."""
    if scaling not in SCALERS:
        raise UsageError(f"unknown scaling {scaling!r}; choose from {', '.join(SCALERS)}")
    return Pipeline([("scale", SCALERS[scaling]()), ("model", classifier)])


def _with_calibration(pipeline: Pipeline, calibration: str, cv: list[tuple[np.ndarray, np.ndarray]]) -> BaseEstimator:
    """Put the calibration after a pipeline of scaler and SVC."""
    if calibration == "pair":
        return PairwiseCalibration(pipeline.set_params(model__decision_function_shape="ovo"), cv)
    if calibration == "genre":
        return CalibratedClassifierCV(pipeline, method="sigmoid", cv=cv, ensemble=False)
    raise UsageError(f"unknown calibration {calibration!r} for svm; choose from pair, genre")


def _calibrated_pipeline(model: PairwiseCalibration | CalibratedClassifierCV) -> Pipeline:
    """Return the fitted pipeline of scaler and SVC under a calibration."""
    return model.estimator_ if isinstance(model, PairwiseCalibration) else model.calibrated_classifiers_[0].estimator


def _default_gamma(X: Any) -> float:
    """Return one over the number of columns that are not constant."""
    return 1 / max(1, int(np.count_nonzero(np.ptp(_as_float64(X), axis=0))))


def _fit_model(name: str, model: Any, data: TrainingData, library_error: type[Exception] = ValueError) -> Any:
    """Fit a model on the training clips, turning the library's error into a TrainingError."""
    try:
        return model.fit(_as_float64(data.X_train), np.asarray(data.y_train, dtype=np.int64))
    except library_error as error:
        raise TrainingError(f"cannot train {name}: {error}") from error


def _catboost_threads(n_clips: int) -> int:
    """Return the number of threads to fit with: at most the cores that affinity and control group allow."""
    return cpu_count() if n_clips >= MIN_CLIPS_CATBOOST_THREADS else 1


def _load_catboost(path: Path) -> Any:
    """Load a CatBoost model."""
    from catboost import CatBoostClassifier, CatBoostError

    try:
        return CatBoostClassifier().load_model(str(path), format="cbm")
    except CatBoostError as error:
        raise DataError(f"{path} is damaged ({error}); train catboost again") from error


def _choose_engine(requested: str, n_clips: int) -> str:
    """Choose the library that fits the SVM."""
    installed = find_spec("sklearnex") is not None
    if requested == "auto":
        return INTELEX if installed and n_clips >= MIN_CLIPS_INTELEX else SKLEARN
    if requested not in (SKLEARN, INTELEX):
        raise UsageError(f"unknown engine {requested!r} for svm; choose from auto, {SKLEARN}, {INTELEX}")
    if requested == INTELEX and not installed:
        raise TrainingError(
            f"svm: {INTELEX} is not installed; "
            "run pip install -c requirements.txt -e '.[accelerated]', or set engine to auto"
        )
    return requested


def _engine_version(engine: str) -> str:
    """Return the library with its version."""
    return f"{engine} {version(engine)}"


class _IntelexSVC(SVC):
    """scikit-learn's SVC, fitted by scikit-learn-intelex.

    Decisions stay libSVM's: those of scikit-learn-intelex (2026.2.0) between two of several genres were off by hundreds
    in some calls, where libSVM's from the same support vectors are right.
    """

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: None = None) -> "_IntelexSVC":
        """Fit with scikit-learn-intelex, without patching scikit-learn."""
        from sklearnex.svm import SVC as IntelexSVC

        params = {name: getattr(self, name) for name in ("C", "gamma", "class_weight", "cache_size")}
        fitted = IntelexSVC(**params).fit(X, y)
        first = np.concatenate([[0], np.cumsum(fitted.n_support_)[:-1]])
        # Fitting one support vector per genre sets the attributes that only scikit-learn has. The others are then
        # replaced by the fitted ones, in the types and the memory order that libSVM reads.
        super().fit(fitted.support_vectors_[first], fitted.classes_)
        for name in FITTED_ATTRIBUTES:
            value = np.ascontiguousarray(getattr(fitted, name), dtype=getattr(self, name).dtype)
            setattr(self, name, value)
        self.shape_fit_ = fitted.shape_fit_
        return self


def _as_plain_svc(fitted: SVC) -> SVC:
    """Convert a fitted SVC of any engine to scikit-learn's own class."""
    plain = SVC(**fitted.get_params())
    vars(plain).update(vars(fitted))
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
