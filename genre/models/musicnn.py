"""The music network musicnn with a head for the data set's genres, trained further: the paper's idea, with music.

What VGG-16 learnt from photographs, musicnn learnt from the Million Song Dataset; see `genre.inputs.musicnn`.
"""

from pathlib import Path
from typing import Any

from genre.errors import UsageError
from genre.models import OnEpoch, TrainingData, mel_cnn
from genre.models.mel_cnn import feature_importances, load_model, predict_proba, save_model, training_facts
from genre.models.vgg import list_range_errors, training_history

__all__ = ["feature_importances", "load_model", "predict_proba", "save_model", "training_facts", "training_history"]


def train_musicnn_fine_tune(
    data: TrainingData,
    seed: int,
    directory: Path,
    on_epoch: OnEpoch | None = None,
    *,
    weights: str = "",
    epochs: int = 10,
    batch_size: int = 16,
    learning_rate: float = 1e-4,
    head_epochs: int = 15,
    head_learning_rate: float = 1e-3,
    class_weights: bool = False,
    dropout: float = 0.5,
    C: float = 0.003,
    precision: str = "float32",
) -> Any:
    """Train musicnn from its published weights: a new head first, on a frozen base, then every weight.

    The head is dropout and softmax on the network's pooled activations.

    The network hears patches of three seconds. The head is trained on three of each clip, every weight on a new one in
    each epoch, from anywhere in the clip; the final model averages the probabilities of three patches.

    On 320 clips of 160 tracks, over three folds by track, the second part lowers the log loss from 0.716 to 0.670;
    macro AUC (0.904 and 0.905, +0.001 [-0.010, +0.011]) and accuracy (0.709 and 0.731, [-0.016, +0.062]) gain no more
    than chance may give. An SVM on the network's embeddings, trained on the same clips in less than a second, has 0.914
    and 0.744: on so few clips this model is no better than that. A rate of 1e-3 in the second part destroys what the
    network knows in the first epoch.

    Parameters
    ----------
    data : TrainingData
        Spectrograms of the input ``musicnn_mel``, and labels.
    seed : int
        Seed of the head, the dropout, the patches and the order of the clips. Seeds all of Keras in this process.
    directory : Path
        Folder in which each epoch is kept; a training with the same hyper-parameters, weights, seed and labels resumes
        there.
    on_epoch : callable, optional
        Receives ``loss``, ``accuracy``, ``auc`` (macro), the same of validation with ``val_``, ``learning_rate``,
        ``seconds`` and ``images_per_second`` of each epoch, counted through both parts.
    weights : str
        Path of the weights, as `genre.inputs.musicnn.load_weights` reads them; the flows find them.
    epochs, head_epochs : int
        Epochs of every weight, and before that of the head alone; at least 1.
    batch_size : int
        Patches per step.
    learning_rate, head_learning_rate : float
        Rates of Adam in these parts, above 0.
    class_weights : bool
        If True, every genre counts the same in the loss, however many clips it has. The softmax is then shifted back.
    dropout : float
        Share of the pooled activations dropped in training, 0 to below 1.
    C : float
        Inverse strength of the penalty on the head's weights, above 0, as of ``logistic_regression``.
    precision : {"float32", "auto"}
        ``auto`` trains in mixed bfloat16 where the device is faster with it. The final model is float32 in any case.

    Returns
    -------
    keras.Model
        The model after the epoch of the second part with the lowest validation loss.

    Raises
    ------
    UsageError
        If a hyper-parameter is out of range, or there is no path of weights.
    DataError
        If the file of weights is missing, or holds something else.
    TrainingError
        If there is no validation clip, memory does not suffice, or the loss is not finite.
    """
    hp = {
        "weights": weights,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "head_epochs": head_epochs,
        "head_learning_rate": head_learning_rate,
        "class_weights": class_weights,
        "dropout": dropout,
        "C": C,
        "precision": precision,
    }
    _check_params(hp)
    mel_cnn.silence_tensorflow()
    from genre.models import musicnn_layers

    training = musicnn_layers.MusicnnTraining("musicnn_fine_tune", data, seed, directory, hp, weights, hidden=())
    return training.build_final_model(training.fine_tune(on_epoch))


def _check_params(hp: dict[str, Any]) -> None:
    """Raise UsageError for hyper-parameters out of range."""
    wrong = list_range_errors("musicnn_fine_tune", hp) + ["C must be above 0"] * (hp["C"] <= 0)
    if wrong:
        raise UsageError(f"musicnn_fine_tune: {', '.join(wrong)}; got {hp}")
    if not hp["weights"]:
        raise UsageError(
            "musicnn_fine_tune starts from the weights of musicnn; set weights to the path of a file that "
            "python -m genre.weights made of the wheel musicnn 0.1.0"
        )
