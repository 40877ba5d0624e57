"""The models by name; the libraries behind one are loaded only when that model is asked for.

A family is a module that offers, for each of its models, a trainer ``(data, seed, directory, on_epoch, *, ...)`` whose
keyword-only arguments are the hyper-parameters, and for all of them ``save(model, path)``, ``load(name, path)``,
``predict_proba(model, X)``, ``importances(model)``, ``history(directory)`` and ``facts(directory)``. A new model is
such a trainer and one line in `MODELS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pandas as pd

from genre import parameters
from genre.errors import DataError, TrainingError, UsageError

Needs = Literal["features", "spectrograms"]
OnEpoch = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Model:
    """What is known of a model before its libraries are loaded.

    Attributes
    ----------
    name : str
        What the user calls it.
    family : str
        Module that trains, saves, loads and runs it.
    needs : {"features", "spectrograms"}
        What its ``X`` is.
    trainer : str
        Function of `family` whose keyword-only defaults are the hyper-parameters.
    file : str
        Name of the file that `save` writes.
    requirements : tuple of str
        Distributions needed to load it and predict, besides numpy and pandas.
    fast : bool
        Whether it trains in minutes on two cores, a few thousand clips.
    """

    name: str
    family: str
    needs: Needs
    trainer: str
    file: str
    requirements: tuple[str, ...]
    fast: bool = True


@dataclass(frozen=True)
class Data:
    """Training and validation clips, labels as positions in `genres`.

    Attributes
    ----------
    genres : list of str
        All genres of the data set, in order.
    X_train, X_validation : np.ndarray or array-like
        Features [shape=(n, 97), float32], or spectrograms [shape=(n, 96, 431), uint8]: anything, a memory map for one,
        with ``len`` and ``[indices]``.
    y_train, y_validation : np.ndarray [shape=(n,), dtype=int]
        Codes in ``0 .. len(genres) - 1``.
    recordings_train : np.ndarray [shape=(n,), dtype=str]
        What each clip was cut from; folds within training never straddle one.
    cache : Path, optional
        Folder for what other trainings on these clips can use again; by default each keeps it to itself.
    """

    genres: list[str]
    X_train: Any
    y_train: np.ndarray
    recordings_train: np.ndarray
    X_validation: Any
    y_validation: np.ndarray
    cache: Path | None = None


_CLASSICAL = "genre.models.classical"
_SKLEARN = ("scikit-learn", "skops")
_VGG, _KERAS = "genre.models.vgg", ("keras", "tensorflow")

MODELS: dict[str, Model] = {
    model.name: model
    for model in (
        Model("logistic_regression", _CLASSICAL, "features", "logistic_regression", "model.skops", _SKLEARN),
        Model("random_forest", _CLASSICAL, "features", "random_forest", "model.skops", _SKLEARN),
        Model("svm", _CLASSICAL, "features", "svm", "model.skops", _SKLEARN),
        Model("catboost", _CLASSICAL, "features", "catboost", "model.cbm", ("catboost",)),
        Model("mel_cnn", "genre.models.mel_cnn", "spectrograms", "mel_cnn", "model.keras", _KERAS),
        Model("vgg16_transfer", _VGG, "spectrograms", "vgg16_transfer", "model.keras", _KERAS, fast=False),
        Model("vgg16_fine_tune", _VGG, "spectrograms", "vgg16_fine_tune", "model.keras", _KERAS, fast=False),
        Model("vgg16_paper", _VGG, "spectrograms", "vgg16_paper", "model.keras", _KERAS, fast=False),
        Model("vgg16_scratch", _VGG, "spectrograms", "vgg16_scratch", "model.keras", _KERAS, fast=False),
        Model("feed_forward", _VGG, "spectrograms", "feed_forward", "model.keras", _KERAS, fast=False),
    )
}


def names(needs: Needs | None = None, *, fast: bool | None = None) -> list[str]:
    """Names of the models, in order.

    Parameters
    ----------
    needs : {"features", "spectrograms"}, optional
        Only the models that take this; all of them by default.
    fast : bool, optional
        Only the models that train in minutes, or only the others; all of them by default.
    """
    return [name for name, model in MODELS.items() if needs in (None, model.needs) and fast in (None, model.fast)]


def get(name: str) -> Model:
    """Entry of one model.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}; choose from {', '.join(sorted(MODELS))}")
    return MODELS[name]


def requirements(name: str) -> list[str]:
    """Distributions needed to load the model and predict, besides numpy and pandas.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    return list(get(name).requirements)


def defaults(name: str) -> dict[str, Any]:
    """Hyper-parameters of a model and their default values: the keyword-only arguments of its trainer.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    return parameters.defaults(_trainer(name))


def check_params(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Full hyper-parameters of a model: the defaults, overridden by `params`.

    Parameters
    ----------
    name : str
        A model of `MODELS`.
    params : mapping
        Some of its hyper-parameters.

    Raises
    ------
    UsageError
        If the model or a hyper-parameter is unknown, or a value is of another type than its default.
    """
    return parameters.complete(defaults(name), params, name)


def train(
    name: str,
    data: Data,
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
    data : Data
        Clips with features or spectrograms, as the model needs.
    params : mapping
        Hyper-parameters other than the default.
    seed : int
        Same data, parameters, seed and machine: same model.
    directory : str or Path
        Where a training that can be resumed keeps its state; made if missing. Called again with the same arguments and
        directory, it goes on where it was killed.
    on_epoch : callable, optional
        Called as ``on_epoch(epoch, metrics)``, epochs from 1, by the models that are trained in epochs.

    Returns
    -------
    object
        The model, for `save`, `predict_proba` and `importances` of this module.

    Raises
    ------
    UsageError
        If the model or a hyper-parameter is not known, or a value is not accepted.
    TrainingError
        If a genre has no training clip, or the model cannot be trained on this data.
    """
    full = check_params(name, params)
    present = np.unique(data.y_train)
    missing = [genre for code, genre in enumerate(data.genres) if code not in present]
    if missing:
        raise TrainingError(
            f"{name} cannot learn {', '.join(missing)}: no training clip; add recordings, or leave the genre out"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    return _trainer(name)(data, seed, directory, on_epoch, **full)


def save(name: str, model: Any, directory: str | Path) -> Path:
    """Write a trained model as one file in `directory`, whole or not at all; returns the file.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    path = Path(directory) / get(name).file
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: Keras tells its format by it.
    partial = path.with_name(f"partial-{path.name}")
    _family(name).save(model, partial)
    return partial.replace(path)


def load(name: str, directory: str | Path) -> Any:
    """Read back what `save` wrote; no file can make this run code of its own.

    Raises
    ------
    UsageError
        If there is no model of that name.
    DataError
        If the file is missing, or holds something other than such a model.
    """
    path = Path(directory) / get(name).file
    if not path.is_file():
        raise DataError(f"no {name} saved in {directory} ({path.name} is missing); train it first")
    return _family(name).load(name, path)


def predict_proba(name: str, model: Any, X: Any) -> np.ndarray:
    """Probabilities of the genres.

    Parameters
    ----------
    name : str
        A model of `MODELS`.
    model : object
        From `train` or `load`.
    X : array-like
        Features [shape=(n, 97)] or spectrograms [shape=(n, 96, 431), dtype=uint8].

    Returns
    -------
    np.ndarray [shape=(n, k), dtype=float64]
        In the order of the genres that the model was trained on; rows sum to 1.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    proba = np.asarray(_family(name).predict_proba(model, X), dtype=np.float64)
    return proba / proba.sum(axis=1, keepdims=True)


def importances(name: str, model: Any, feature_names: Sequence[str]) -> pd.Series | None:
    """What the model itself says of its features, most important first; None where it says nothing.

    The forest and CatBoost give shares that sum to 1, logistic regression the mean over genres of its coefficients'
    size on the features scaled to 0 .. 1.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    values = _family(name).importances(model)
    if values is None:
        return None
    series = pd.Series(values, index=pd.Index(feature_names, name="feature"), name="importance")
    return series.sort_values(ascending=False, kind="stable")


def history(name: str, directory: str | Path) -> pd.DataFrame | None:
    """Learning curves of a training in `directory`; None where a model has no epochs.

    Returns
    -------
    pd.DataFrame or None
        Index ``epoch`` from 1; columns ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``learning_rate``,
        ``seconds``, ``images_per_second`` and what a model adds, as `train` passed them to ``on_epoch``, those before a
        kill too.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    curves: pd.DataFrame | None = _family(name).history(Path(directory))
    return curves


def facts(name: str, directory: str | Path) -> dict[str, str]:
    """What a training in `directory` says of itself, for tags.

    Returns
    -------
    dict
        For networks ``backend``, ``device`` (``cpu`` or ``gpu``), ``precision`` (Keras's dtype policy) and
        ``class_weights_applied``; with VGG-16, ``base_weights_unchanged``, from hashes before and after. For the SVM
        ``engine`` (library and version that fitted it) and ``calibration_folds``. For others nothing.

    Raises
    ------
    UsageError
        If there is no model of that name.
    """
    known: dict[str, str] = _family(name).facts(Path(directory))
    return known


def _family(name: str) -> ModuleType:
    """Module of a model, loaded now."""
    return import_module(get(name).family)


def _trainer(name: str) -> Callable[..., Any]:
    """Function that trains a model."""
    trainer: Callable[..., Any] = getattr(_family(name), get(name).trainer)
    return trainer
