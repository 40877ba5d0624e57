"""The paper's networks: VGG-16 on the spectrogram as an image, trained in four ways, and the feed-forward baseline.

All take the stored spectrogram: scaling each clip to its own range, colouring and resizing are their first layers. The
head is Flatten, Dense, Dropout, ReLU and softmax (Bahuleyan 2018, section 5.1).

The hyper-parameters of a trainer are the fields of one of the dataclasses here, passed as keyword arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

import pandas as pd

from genre.errors import UsageError
from genre.models import OnEpoch, TrainingData, mel_cnn
from genre.models.mel_cnn import feature_importances, load_model, predict_proba, save_model, training_facts

__all__ = ["feature_importances", "load_model", "predict_proba", "save_model", "training_facts", "training_history"]

#: Smallest image that survives the five poolings of VGG-16.
MIN_IMAGE_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class NetworkParams:
    """Hyper-parameters of every network in this module; the defaults are the published code's.

    Attributes
    ----------
    preprocessing : {"imagenet", "paper"}
        Scale of the image: what ImageNet's weights were trained on (BGR in 0 .. 255 less the channel means), or the
        published code's RGB in 0 .. 1, in which a whole image spans one of the grey levels that those weights know.
        Under a frozen base the second is the better one all the same, see `benchmarks.quality.vgg16`.
    colours : {"jet", "grey"}
        How an image shows the log-mel spectrogram: in the colours of the published figures, or as the same grey level
        in all three channels.
    epochs, batch_size : int
        Passes over the data and clips per step, at least 1.
    learning_rate : float
        Learning rate of Adam, constant, above 0.
    class_weights : bool
        If True, every genre counts the same in the loss, however many clips it has. The softmax is then shifted back,
        so that probabilities are those of the data's own proportions.
    units : int
        Units of the dense layer, at least 1.
    dropout : float
        Share of its outputs dropped in training, 0 to below 1.
    l2 : float
        Penalty on its squared weights, from 0.
    image_size : int
        Width and height of the image, at least 32 for VGG-16; the paper's is 216.
    precision : {"auto", "float32"}
        ``auto`` trains in mixed bfloat16 where the device is faster with it. The final model is float32 in any case.
    """

    preprocessing: str = "paper"
    colours: str = "jet"
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-5
    class_weights: bool = False
    units: int = 512
    dropout: float = 0.3
    l2: float = 1e-3
    image_size: int = 216
    precision: str = "auto"


@dataclass(frozen=True, kw_only=True)
class PretrainedParams(NetworkParams):
    """Hyper-parameters of a network that starts from trained weights.

    Attributes
    ----------
    weights : str
        ``imagenet``, which Keras downloads once, or a file: weights without the dense layers as Keras publishes or
        saves them (``.h5``, ``.weights.h5``), or a model that contains VGG-16 (``.keras``).
    """

    weights: str = "imagenet"


@dataclass(frozen=True, kw_only=True)
class TransferParams(PretrainedParams):
    """Hyper-parameters of `train_vgg16_transfer`.

    Attributes
    ----------
    learning_rate : float
        Ten times the paper's 1e-5, which suits trained weights: with it a new head changes too little in ten epochs of
        a few hundred clips.
    image_size : int
        As good as the paper's 216 in a third of the time, by `benchmarks.quality.vgg16`.
    """

    learning_rate: float = 1e-4
    image_size: int = 128


@dataclass(frozen=True, kw_only=True)
class FineTuneParams(PretrainedParams):
    """Hyper-parameters of `train_vgg16_fine_tune`; `epochs` and `learning_rate` are those of the second part.

    Attributes
    ----------
    head_epochs, head_learning_rate : int, float
        Epochs and learning rate of the first part, which trains the head alone; at least 1 and above 0.
    """

    preprocessing: str = "imagenet"
    head_epochs: int = 3
    head_learning_rate: float = 1e-4


#: Values of the published code where the defaults are others.
PAPER_PARAMS: dict[str, dict[str, Any]] = {
    "vgg16_transfer": {"learning_rate": 1e-5, "image_size": 216},
    "vgg16_fine_tune": {"preprocessing": "paper", "head_learning_rate": 1e-5},
}


def _expand_params(train: Callable[..., Any]) -> Callable[..., Any]:
    """Replace the argument `params` of a trainer by one keyword-only argument per field of its dataclass.

    The signature shows them with their defaults, from which `genre.models.default_params` reads the hyper-parameters.
    """
    own = signature(train)
    *common, params = own.parameters.values()

    @wraps(train)
    def trainer(data: TrainingData, seed: int, directory: Path, on_epoch: OnEpoch | None = None, **values: Any) -> Any:
        return train(data, seed, directory, on_epoch, params=params.annotation(**values))

    fields = signature(params.annotation).parameters.values()
    trainer.__signature__ = own.replace(parameters=[*common, *fields])  # type: ignore[attr-defined]
    return trainer


@_expand_params
def train_vgg16_transfer(
    data: TrainingData, seed: int, directory: Path, on_epoch: OnEpoch | None = None, *, params: TransferParams
) -> Any:
    """Train a new head on VGG-16 as ImageNet left it, frozen.

    The base runs once over the clips; its outputs are kept in half precision, by a hash of weights, settings and clips,
    and the head is trained on them.

    Parameters
    ----------
    data : TrainingData
        Spectrograms and labels.
    seed : int
        Seed of the weights, the dropout and the order of the clips. Seeds all of Keras in this process.
    directory : Path
        Folder in which each epoch is kept; a training with the same hyper-parameters, seed and labels resumes there.
    on_epoch : callable, optional
        Receives ``loss``, ``accuracy``, ``auc`` (macro), the same of validation with ``val_``, ``learning_rate``,
        ``seconds`` and ``images_per_second`` of each epoch.
    params : TransferParams
        Passed as keyword arguments, one per field.

    Returns
    -------
    keras.Model
        The model after the epoch of the lowest validation loss.

    Raises
    ------
    UsageError
        If a hyper-parameter is out of range.
    TrainingError
        If the weights cannot be loaded or are another network's, there is no validation clip, memory does not suffice,
        or the loss is not finite.
    """
    training = _network_training("vgg16_transfer", data, seed, directory, params, params.weights)
    return training.build_final_model(training.fit_head(directory, params.epochs, params.learning_rate, on_epoch))


@_expand_params
def train_vgg16_fine_tune(
    data: TrainingData, seed: int, directory: Path, on_epoch: OnEpoch | None = None, *, params: FineTuneParams
) -> Any:
    """Train VGG-16 from ImageNet: the head first, on a frozen base, then every weight.

    Parameters, result and errors are those of `train_vgg16_transfer`, with `FineTuneParams`; epochs are counted through
    both parts, and the model is the best of the second.
    """
    training = _network_training("vgg16_fine_tune", data, seed, directory, params, params.weights)
    return training.build_final_model(training.fine_tune(on_epoch))


@_expand_params
def train_vgg16_paper(
    data: TrainingData, seed: int, directory: Path, on_epoch: OnEpoch | None = None, *, params: PretrainedParams
) -> Any:
    """Train every weight of VGG-16 from ImageNet, under a fresh head.

    This is what the published code trained, whatever it called it. Parameters, result and errors are those of
    `train_vgg16_transfer`, with `PretrainedParams`.
    """
    training = _network_training("vgg16_paper", data, seed, directory, params, params.weights)
    return _fit_every_weight(training, on_epoch)


@_expand_params
def train_vgg16_scratch(
    data: TrainingData, seed: int, directory: Path, on_epoch: OnEpoch | None = None, *, params: NetworkParams
) -> Any:
    """Train VGG-16 from random weights; compared with `train_vgg16_paper`, this shows what ImageNet is worth.

    Parameters, result and errors are those of `train_vgg16_transfer`, with `NetworkParams`.
    """
    training = _network_training("vgg16_scratch", data, seed, directory, params, "none")
    return _fit_every_weight(training, on_epoch)


@_expand_params
def train_feed_forward(
    data: TrainingData, seed: int, directory: Path, on_epoch: OnEpoch | None = None, *, params: NetworkParams
) -> Any:
    """Train the paper's baseline: the flattened image, a dense layer of `units`, one of 32, softmax (71.7 M weights).

    Parameters, result and errors are those of `train_vgg16_transfer`, with `NetworkParams`; dropout and penalty act on
    both layers.
    """
    training = _network_training("feed_forward", data, seed, directory, params, None, (params.units, 32))
    return _fit_every_weight(training, on_epoch)


def training_history(directory: Path) -> pd.DataFrame:
    """Return the epochs trained in `directory`, those of a head trained first included; index ``epoch`` from 1."""
    tables = [mel_cnn.training_history(folder) for folder in (directory / "head", directory)]
    joined = pd.concat([table for table in tables if len(table)] or tables[-1:])
    return joined.set_index(pd.RangeIndex(1, len(joined) + 1, name="epoch"))


def _network_training(
    name: str,
    data: TrainingData,
    seed: int,
    directory: Path,
    params: NetworkParams,
    weights: str | None,
    hidden: tuple[int, ...] | None = None,
) -> Any:
    """Check the hyper-parameters, load Keras and prepare a training; `hidden` is one layer of `units` by default."""
    hp = asdict(params)
    _check_params(name, hp)
    mel_cnn.silence_tensorflow()
    from genre.models import vgg_layers

    return vgg_layers.NetworkTraining(name, data, seed, directory, hp, weights, hidden or (params.units,))


def _fit_every_weight(training: Any, on_epoch: OnEpoch | None) -> Any:
    """Train a network with an untrained head, all its weights from the first step."""
    return training.build_final_model(training.fit_network(training.build_network(training.policy), on_epoch))


def _check_params(name: str, hp: Mapping[str, Any]) -> None:
    """Raise UsageError for hyper-parameters out of range."""
    wrong = list_range_errors(name, hp)
    if wrong:
        raise UsageError(f"{name}: {', '.join(wrong)}; got {dict(hp)}")
    if hp.get("weights") in ("none", ""):
        raise UsageError(
            f"{name} cannot start from random weights; set weights to imagenet or a file, or train vgg16_scratch"
        )


def list_range_errors(name: str, hp: Mapping[str, Any]) -> list[str]:
    """List the hyper-parameters of a network that are out of range, each with the accepted values."""
    minimum = {"epochs": 1, "head_epochs": 1, "batch_size": 1, "units": 1, "l2": 0}
    minimum["image_size"] = MIN_IMAGE_SIZE if name.startswith("vgg16") else 1
    wrong = [f"{key} must be at least {least}" for key, least in minimum.items() if hp.get(key, least) < least]
    wrong += [f"{key} must be above 0" for key in ("learning_rate", "head_learning_rate") if hp.get(key, 1) <= 0]
    if not 0 <= hp["dropout"] < 1:
        wrong.append("dropout must be at least 0 and below 1")
    choices = {"preprocessing": ("paper", "imagenet"), "colours": ("jet", "grey"), "precision": ("auto", "float32")}
    for key, accepted in choices.items():
        if hp.get(key, accepted[0]) not in accepted:
            wrong.append(f"{key} must be {' or '.join(accepted)}")
    return wrong
