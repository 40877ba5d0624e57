"""Models by name; the libraries of a model are imported only when that model is used.

A family is a module with one function ``train_NAME(data, seed, directory, on_epoch, *, ...)`` per model, whose
keyword-only arguments are the hyper-parameters, and these functions for all its models: ``save_model(model, path)``,
``load_model(name, path)``, ``predict_proba(model, X)``, ``feature_importances(model)``, ``training_history(directory)``
and ``training_facts(directory)``. A new model is such a trainer and one line in `MODELS`. A family may have
``PAPER_PARAMS``, the hyper-parameters of the variant ``paper`` that differ from the defaults, by model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from genre import parameters
from genre.config import Variant
from genre.errors import DataError, TrainingError, UsageError
from genre.files import sync_to_disk

OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class ModelSpec:
    """Entry of a model, available before its libraries are imported.

    Attributes
    ----------
    name : str
        Name on the command line and in tables.
    family : str
        Module that trains, saves, loads and runs it.
    input_names : tuple of str
        Its input ``X``, by the names in `genre.inputs.INPUTS`: one, or several vectors side by side.
    file_name : str
        Name of the file that `save_model` writes.
    requirements : tuple of str
        Distributions needed to load it and predict, besides numpy and pandas.
    fast : bool
        True (the default) if it trains in minutes on two cores, with a few thousand clips.
    trainer : str
        Name of the model whose ``train_NAME`` it shares, on another input; by default its own.
    plain_input_names : tuple of str
        Its input in the paper variant, and of data sets that bring features without audio; by default `input_names`.
    """

    name: str
    family: str
    input_names: tuple[str, ...]
    file_name: str
    requirements: tuple[str, ...]
    fast: bool = True
    trainer: str = ""
    plain_input_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingData:
    """Training and validation clips, labels as positions in `genres`.

    Attributes
    ----------
    genres : list of str
        All genres of the data set, in order.
    X_train, X_validation : np.ndarray or array-like
        Vectors [shape=(n, d), float32], such as 97 features, or spectrograms [shape=(n, 96, 431), uint8]; any object
        with ``len`` and ``[indices]``, such as a memory map.
    y_train, y_validation : np.ndarray [shape=(n,), dtype=int]
        Codes in ``0 .. len(genres) - 1``.
    recordings_train : np.ndarray [shape=(n,), dtype=str]
        Recording of each clip; folds within training never divide one.
    cache_dir : Path, optional
        Folder of intermediate results shared with other trainings on these clips; by default nothing is shared.
    """

    genres: list[str]
    X_train: Any
    y_train: np.ndarray
    recordings_train: np.ndarray
    X_validation: Any
    y_validation: np.ndarray
    cache_dir: Path | None = None


_CLASSICAL = "genre.models.classical"
_SKLEARN = ("scikit-learn", "skops")
_FEATURES = ("features",)
_COLUMNS = ("features", "modulations")
_EMBEDDINGS = ("embeddings",)
_SPECTROGRAMS = ("spectrograms",)
_VGG = "genre.models.vgg"
_KERAS = ("keras", "tensorflow")

MODELS: dict[str, ModelSpec] = {
    model.name: model
    for model in (
        ModelSpec("logistic_regression", _CLASSICAL, _COLUMNS, "model.skops", _SKLEARN, plain_input_names=_FEATURES),
        ModelSpec("random_forest", _CLASSICAL, _COLUMNS, "model.skops", _SKLEARN, plain_input_names=_FEATURES),
        ModelSpec("svm", _CLASSICAL, _COLUMNS, "model.skops", _SKLEARN, plain_input_names=_FEATURES),
        ModelSpec("catboost", _CLASSICAL, _COLUMNS, "model.cbm", ("catboost",), plain_input_names=_FEATURES),
        ModelSpec(
            "logistic_regression_embeddings",
            *(_CLASSICAL, _EMBEDDINGS, "model.skops", _SKLEARN),
            trainer="logistic_regression",
        ),
        ModelSpec("svm_embeddings", _CLASSICAL, _EMBEDDINGS, "model.skops", _SKLEARN, trainer="svm"),
        ModelSpec("svm_all_inputs", _CLASSICAL, (*_COLUMNS, *_EMBEDDINGS), "model.skops", _SKLEARN, trainer="svm"),
        ModelSpec("mel_cnn", "genre.models.mel_cnn", _SPECTROGRAMS, "model.keras", _KERAS),
        ModelSpec("musicnn_fine_tune", "genre.models.musicnn", ("musicnn_mel",), "model.keras", _KERAS, fast=False),
        ModelSpec("vgg16_transfer", _VGG, _SPECTROGRAMS, "model.keras", _KERAS, fast=False),
        ModelSpec("vgg16_fine_tune", _VGG, _SPECTROGRAMS, "model.keras", _KERAS, fast=False),
        ModelSpec("vgg16_paper", _VGG, _SPECTROGRAMS, "model.keras", _KERAS, fast=False),
        ModelSpec("vgg16_scratch", _VGG, _SPECTROGRAMS, "model.keras", _KERAS, fast=False),
        ModelSpec("feed_forward", _VGG, _SPECTROGRAMS, "model.keras", _KERAS, fast=False),
    )
}

#: Models that are registered as they are: their families save, load and predict, and train nothing.
PRETRAINED: dict[str, ModelSpec] = {
    model.name: model
    for model in (
        ModelSpec("musicnn_tags", "genre.models.musicnn_tags", _EMBEDDINGS, "genres.json", requirements=(), fast=False),
    )
}


def model_names(input_name: str | None = None, *, fast: bool | None = None) -> list[str]:
    """List the names of the models, in order.

    Parameters
    ----------
    input_name : str, optional
        Only the models that take this input, alone or beside others; all by default.
    fast : bool, optional
        Only the models that train in minutes (True), or only the others (False); all by default.
    """
    return [
        name
        for name, model in MODELS.items()
        if input_name in (None, *model.input_names) and fast in (None, model.fast)
    ]


def get_model(name: str) -> ModelSpec:
    """Return the entry of a model, trained or pretrained.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    if name in PRETRAINED:
        return PRETRAINED[name]
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; choose from {', '.join(sorted(MODELS))}")
    return MODELS[name]


def select_inputs(name: str, variant: Variant, *, has_audio: bool) -> tuple[str, ...]:
    """Return the names of the inputs that a model takes of a data set.

    Parameters
    ----------
    name : str
        A model of `MODELS`.
    variant : {"corrected", "paper"}
        Variant of the inputs.
    has_audio : bool
        False for a data set that brings features only.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    model = get_model(name)
    is_plain = variant == "paper" or not has_audio
    return (model.plain_input_names or model.input_names) if is_plain else model.input_names


def model_requirements(name: str) -> list[str]:
    """List the distributions needed to load a model and predict, besides numpy and pandas.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    return list(get_model(name).requirements)


def default_params(name: str, variant: Variant = "corrected") -> dict[str, Any]:
    """Return the hyper-parameters of a model with their defaults: the keyword-only arguments of its trainer.

    Parameters
    ----------
    name : str
        A model of `MODELS`.
    variant : {"corrected", "paper"}
        ``paper`` gives the paper's values where they differ.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    defaults = parameters.keyword_defaults(_load_trainer(name))
    published = getattr(_load_family(name), "PAPER_PARAMS", {}) if variant == "paper" else {}
    return defaults | published.get(name, {})


def check_params(name: str, params: Mapping[str, Any], variant: Variant = "corrected") -> dict[str, Any]:
    """Return all hyper-parameters of a model: the defaults, overridden by `params`.

    Parameters
    ----------
    name : str
        A model of `MODELS`.
    params : mapping
        Hyper-parameters other than the defaults.
    variant : {"corrected", "paper"}
        Variant of which the defaults are taken.

    Raises
    ------
    UsageError
        If the model or a hyper-parameter is unknown, or a value is of another type than its default.
    """
    return parameters.override_defaults(default_params(name, variant), params, name)


def train_model(
    name: str,
    data: TrainingData,
    params: Mapping[str, Any],
    seed: int,
    directory: str | Path,
    on_epoch: OnEpoch | None = None,
) -> Any:
    """Train a model.

    Parameters
    ----------
    name : str
        A model of `MODELS`.
    data : TrainingData
        Clips with the features or spectrograms that the model needs.
    params : mapping
        Hyper-parameters other than the defaults.
    seed : int
        The same data, parameters, seed and machine give the same model.
    directory : str or Path
        Folder of the state of a training that can be resumed; made if missing. A call with the same arguments and
        directory resumes where the previous one was killed.
    on_epoch : callable, optional
        Called as ``on_epoch(epoch, metrics)``, epochs from 1, by models that are trained in epochs.

    Returns
    -------
    object
        The model, for `save_model`, `predict_proba` and `feature_importances` of this module.

    Raises
    ------
    UsageError
        If the model or a hyper-parameter is unknown, or a value is not accepted.
    TrainingError
        If a genre has no training clip, or the model cannot be trained on this data.
    """
    hyperparameters = check_params(name, params)
    codes = np.unique(data.y_train)
    missing = [genre for code, genre in enumerate(data.genres) if code not in codes]
    if missing:
        raise TrainingError(
            f"{name} cannot learn {', '.join(missing)}: no training clips; add recordings, or leave the genre out"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    return _load_trainer(name)(data, seed, directory, on_epoch, **hyperparameters)


def save_model(name: str, model: Any, directory: str | Path) -> Path:
    """Write a trained model as one file in `directory`, whole or not at all, and return its path.

    It is on the disk before it gets its name, also where the power fails.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    path = Path(directory) / get_model(name).file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays, since Keras chooses the format by it.
    partial = path.with_name(f"partial-{path.name}")
    _load_family(name).save_model(model, partial)
    sync_to_disk(partial)
    partial.replace(path)
    sync_to_disk(path.parent)
    return path


def load_model(name: str, directory: str | Path) -> Any:
    """Load a model from `save_model`; code in the file is never run.

    Raises
    ------
    UsageError
        If there is no model of that name.
    DataError
        If the file is missing, or does not hold such a model.
    """
    path = Path(directory) / get_model(name).file_name
    if not path.is_file():
        raise DataError(f"no {name} saved in {directory} ({path.name} is missing); train it first")
    return _load_family(name).load_model(get_model(name).trainer or name, path)


def predict_proba(name: str, model: Any, X: Any) -> np.ndarray:
    """Predict the probabilities of the genres.

    Parameters
    ----------
    name : str
        A model of `MODELS`.
    model : object
        From `train_model` or `load_model`.
    X : array-like
        Vectors [shape=(n, d)] or spectrograms [shape=(n, 96, 431), dtype=uint8], as the model was trained on.

    Returns
    -------
    np.ndarray [shape=(n, k), dtype=float64]
        Columns in the order of the genres of the training data; rows sum to 1.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    proba = np.asarray(_load_family(name).predict_proba(model, X), dtype=np.float64)
    return proba / proba.sum(axis=1, keepdims=True)


def feature_importances(name: str, model: Any, feature_names: Sequence[str]) -> pd.Series | None:
    """Return the model's own importances of its features, highest first; None for models without.

    The forest and CatBoost give shares that sum to 1, logistic regression the mean over genres of its absolute
    coefficients for scaled features.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    values = _load_family(name).feature_importances(model)
    if values is None:
        return None
    series = pd.Series(values, index=pd.Index(feature_names, name="feature"), name="importance")
    return series.sort_values(ascending=False, kind="stable")


def training_history(name: str, directory: str | Path) -> pd.DataFrame | None:
    """Return the learning curves of a training in `directory`; None for models without epochs.

    Returns
    -------
    pd.DataFrame or None
        Index ``epoch`` from 1; columns ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``learning_rate``,
        ``seconds``, ``images_per_second`` and any that a model adds, as `train_model` passed them to ``on_epoch``,
        including the epochs before a kill.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    curves: pd.DataFrame | None = _load_family(name).training_history(Path(directory))
    return curves


def training_facts(name: str, directory: str | Path) -> dict[str, str]:
    """Return facts about the training in `directory`, for tags.

    Returns
    -------
    dict
        For networks ``backend``, ``device`` (``cpu`` or ``gpu``), ``precision`` (Keras's dtype policy) and
        ``class_weights_applied``; with VGG-16, ``base_weights_unchanged``, from hashes before and after. For the SVM
        ``engine`` (library and version that fitted it) and ``calibration_folds``. Empty for other models.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    facts: dict[str, str] = _load_family(name).training_facts(Path(directory))
    return facts


def _load_family(name: str) -> ModuleType:
    """Import the module of a model."""
    return import_module(get_model(name).family)


def _load_trainer(name: str) -> Callable[..., Any]:
    """Return the function that trains a model."""
    trainer: Callable[..., Any] = getattr(_load_family(name), f"train_{get_model(name).trainer or name}")
    return trainer
