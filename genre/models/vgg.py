"""The paper's networks: VGG-16 on the picture of the spectrogram, four ways, and the feed-forward baseline.

All take the stored spectrogram: the stretch of each clip to its own range, the colours and the resize are their first
layers. The head is Flatten, Dense, Dropout, ReLU and softmax (Bahuleyan 2018, section 5.1).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from genre.errors import UsageError
from genre.models import OnEpoch, TrainingData
from genre.models.mel_cnn import feature_importances, load_model, predict_proba, save_model, training_facts

__all__ = ["feature_importances", "load_model", "predict_proba", "save_model", "training_facts", "training_history"]

#: Smallest picture that VGG-16's five poolings leave something of.
MIN_IMAGE_SIZE = 32


def train_vgg16_transfer(
    data: TrainingData,
    seed: int,
    directory: Path,
    on_epoch: OnEpoch | None = None,
    *,
    weights: str = "imagenet",
    preprocessing: str = "imagenet",
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    class_weights: bool = False,
    units: int = 512,
    dropout: float = 0.3,
    l2: float = 1e-3,
    image_size: int = 216,
    precision: str = "auto",
) -> Any:
    """VGG-16 as ImageNet left it, frozen, under a new head.

    The base runs once over the clips; its outputs are kept in half precision, by a hash of weights, settings and clips,
    and the head is trained on them. Adam, constant rate.

    Parameters
    ----------
    data : Data
        Spectrograms and labels.
    seed : int
        Of the weights, the dropout and the order of the clips. Seeds all of Keras in this process.
    directory : Path
        Where each epoch is kept; the same hyper-parameters, seed and labels go on from there.
    on_epoch : callable, optional
        Gets ``loss``, ``accuracy``, ``auc`` (macro), the same of validation with ``val_``, ``learning_rate``,
        ``seconds`` and ``images_per_second`` of each epoch.
    weights : str
        ``imagenet``, which Keras downloads once, or a file: weights without the dense layers as Keras publishes or
        saves them (``.h5``, ``.weights.h5``), or a model that holds VGG-16 (``.keras``).
    preprocessing : {"imagenet", "paper"}
        What ImageNet's weights were trained on (BGR in 0 .. 255 less the means), or the published code's RGB in 0 .. 1,
        in which a whole picture spans one of the grey levels that those weights know: a frozen base gets the first.
    epochs, batch_size : int
        Passes over the data; clips a step.
    learning_rate : float
        Above 0. The paper's 1e-5 is for weights that are good already; a fresh head moves too little by it in ten
        epochs of a few hundred clips.
    class_weights : bool
        Whether each genre counts the same in the loss, however many clips it has. The softmax is then shifted back, so
        that probabilities are those of the data's own proportions.
    units : int
        Of the dense layer.
    dropout : float
        Share of its outputs dropped in training, 0 to below 1.
    l2 : float
        Penalty on its squared weights, from 0.
    image_size : int
        Width and height of the picture, 32 at least; the paper's is 216.
    precision : {"auto", "float32"}
        ``auto`` trains in mixed bfloat16 where the device is faster by it. The model is float32 in any case.

    Returns
    -------
    keras.Model
        As it was after the epoch of the lowest validation loss.

    Raises
    ------
    UsageError
        If a hyper-parameter is out of range.
    TrainingError
        If the weights cannot be had or are another network's, there is no validation clip, memory does not suffice, or
        the loss is not finite.
    """
    work = _network_training("vgg16_transfer", locals(), weights)
    return work.build_final_model(work.fit_head(directory, epochs, learning_rate, on_epoch))


def train_vgg16_fine_tune(
    data: TrainingData,
    seed: int,
    directory: Path,
    on_epoch: OnEpoch | None = None,
    *,
    weights: str = "imagenet",
    preprocessing: str = "imagenet",
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-5,
    head_epochs: int = 3,
    head_learning_rate: float = 1e-4,
    class_weights: bool = False,
    units: int = 512,
    dropout: float = 0.3,
    l2: float = 1e-3,
    image_size: int = 216,
    precision: str = "auto",
) -> Any:
    """VGG-16 from ImageNet: the head first, on a frozen base, then every weight.

    Parameters
    ----------
    data, seed, directory, on_epoch
        As for `train_vgg16_transfer`; epochs are counted through both parts.
    head_epochs, head_learning_rate : int, float
        Of the first part.
    epochs, learning_rate : int, float
        Of the second (Adam 1e-5 in the paper).
    weights, preprocessing, batch_size, class_weights, units, dropout, l2, image_size, precision
        As for `train_vgg16_transfer`.

    Returns
    -------
    keras.Model
        As it was after the epoch of the lowest validation loss in the second part.

    Raises
    ------
    UsageError, TrainingError
        As for `train_vgg16_transfer`.
    """
    work = _network_training("vgg16_fine_tune", locals(), weights)
    head = work.fit_head(directory / "head", head_epochs, head_learning_rate, on_epoch)
    model = work.build_network(work.policy)
    model.get_layer("head").set_weights(head.get_weights())

    def counted_on(epoch: int, metrics: dict[str, float]) -> None:
        if on_epoch:
            on_epoch(head_epochs + epoch, metrics)

    return work.build_final_model(work.fit_network(model, counted_on))


def train_vgg16_paper(
    data: TrainingData,
    seed: int,
    directory: Path,
    on_epoch: OnEpoch | None = None,
    *,
    weights: str = "imagenet",
    preprocessing: str = "paper",
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-5,
    class_weights: bool = False,
    units: int = 512,
    dropout: float = 0.3,
    l2: float = 1e-3,
    image_size: int = 216,
    precision: str = "auto",
) -> Any:
    """What the published code trained, whatever its name: every weight of VGG-16 from ImageNet, under a fresh head.

    Parameters
    ----------
    data, seed, directory, on_epoch
        As for `train_vgg16_transfer`.
    weights, preprocessing, epochs, batch_size, learning_rate, class_weights, units, dropout, l2, image_size, precision
        As for `train_vgg16_transfer`; the defaults are the published code's.

    Returns
    -------
    keras.Model
        As it was after the epoch of the lowest validation loss.

    Raises
    ------
    UsageError, TrainingError
        As for `train_vgg16_transfer`.
    """
    work = _network_training("vgg16_paper", locals(), weights)
    return work.build_final_model(work.fit_network(work.build_network(work.policy), on_epoch))


def train_vgg16_scratch(
    data: TrainingData,
    seed: int,
    directory: Path,
    on_epoch: OnEpoch | None = None,
    *,
    preprocessing: str = "paper",
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-5,
    class_weights: bool = False,
    units: int = 512,
    dropout: float = 0.3,
    l2: float = 1e-3,
    image_size: int = 216,
    precision: str = "auto",
) -> Any:
    """`train_vgg16_paper` from random weights: what ImageNet is worth.

    Parameters
    ----------
    data, seed, directory, on_epoch
        As for `train_vgg16_transfer`.
    preprocessing, epochs, batch_size, learning_rate, class_weights, units, dropout, l2, image_size, precision
        As for `train_vgg16_transfer`.

    Returns
    -------
    keras.Model
        As it was after the epoch of the lowest validation loss.

    Raises
    ------
    UsageError, TrainingError
        As for `train_vgg16_transfer`.
    """
    work = _network_training("vgg16_scratch", locals(), "none")
    return work.build_final_model(work.fit_network(work.build_network(work.policy), on_epoch))


def train_feed_forward(
    data: TrainingData,
    seed: int,
    directory: Path,
    on_epoch: OnEpoch | None = None,
    *,
    preprocessing: str = "paper",
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: float = 1e-5,
    class_weights: bool = False,
    units: int = 512,
    dropout: float = 0.3,
    l2: float = 1e-3,
    image_size: int = 216,
    precision: str = "auto",
) -> Any:
    """The paper's baseline: the flattened picture, a dense layer of `units`, one of 32, softmax (71.7 M weights).

    Parameters
    ----------
    data, seed, directory, on_epoch
        As for `train_vgg16_transfer`.
    preprocessing, epochs, batch_size, learning_rate, class_weights, units, dropout, l2, image_size, precision
        As for `train_vgg16_transfer`; dropout and penalty act on both layers.

    Returns
    -------
    keras.Model
        As it was after the epoch of the lowest validation loss.

    Raises
    ------
    UsageError, TrainingError
        As for `train_vgg16_transfer`.
    """
    work = _network_training("feed_forward", locals(), None, hidden=(units, 32))
    return work.build_final_model(work.fit_network(work.build_network(work.policy), on_epoch))


def training_history(directory: Path) -> pd.DataFrame:
    """Epochs trained in `directory`, those of a head trained first before the others; index ``epoch`` from 1."""
    from genre.models import mel_cnn

    tables = [mel_cnn.training_history(folder) for folder in (directory / "head", directory)]
    joined = pd.concat([table for table in tables if len(table)] or tables[-1:])
    return joined.set_index(pd.RangeIndex(1, len(joined) + 1, name="epoch"))


def _network_training(
    name: str, arguments: Mapping[str, Any], weights: str | None, hidden: tuple[int, ...] | None = None
) -> Any:
    """The training that these arguments ask for."""
    data, seed, directory = (arguments[key] for key in ("data", "seed", "directory"))
    hp = {k: v for k, v in arguments.items() if k not in ("data", "seed", "directory", "on_epoch")}
    _check_params(name, hp)
    from genre.models import mel_cnn

    mel_cnn.silence_tensorflow()
    from genre.models import vgg_layers

    return vgg_layers.NetworkTraining(name, data, seed, directory, hp, weights, hidden or (hp["units"],))


def _check_params(name: str, hp: Mapping[str, Any]) -> None:
    """Refuse what is out of range."""
    smallest = {"epochs": 1, "head_epochs": 1, "batch_size": 1, "units": 1, "l2": 0}
    smallest["image_size"] = MIN_IMAGE_SIZE if name.startswith("vgg16") else 1
    wrong = [f"{key} from {least}" for key, least in smallest.items() if hp.get(key, least) < least]
    wrong += [f"{k} above 0" for k in ("learning_rate", "head_learning_rate") if hp.get(k, 1) <= 0]
    wrong += [] if 0 <= hp["dropout"] < 1 else ["dropout in [0, 1)"]
    wrong += [] if hp["preprocessing"] in ("paper", "imagenet") else ["preprocessing paper or imagenet"]
    wrong += [] if hp["precision"] in ("auto", "float32") else ["precision auto or float32"]
    if wrong:
        raise UsageError(f"{name} takes {', '.join(wrong)}; got {dict(hp)}")
    if hp.get("weights", "imagenet") in ("none", ""):
        raise UsageError(f"{name} starts from weights: imagenet or a file; for random ones train vgg16_scratch")
