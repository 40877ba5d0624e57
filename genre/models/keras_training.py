"""Common parts of the Keras models: batches, training that survives a kill, files, prediction.

Loads Keras and its backend (TensorFlow unless ``KERAS_BACKEND`` names another); nothing here depends on the backend.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
import pandas as pd

from genre.errors import DataError, TrainingError
from genre.files import read_json, write_atomically, write_json
from genre.models import OnEpoch, TrainingData, devices

#: Change of a batch of clips that is drawn at random, the same for the same generator.
Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]

#: Clips per batch of a prediction; the first layers of VGG-16 need about 60 MB per clip.
PREDICT_BATCH = 32


class ClipBatches(keras.utils.PyDataset):
    """Batches of clips with one-hot labels, shuffled anew in each epoch if there is a seed.

    Parameters
    ----------
    X : array-like [shape=(n, ...), dtype=uint8]
        Read by increasing position, which is fastest with a memory map.
    y : np.ndarray [shape=(n,), dtype=int]
        Codes in ``0 .. n_genres - 1``.
    n_genres : int
        Length of a one-hot label.
    batch_size : int
        Clips per batch; the last batch of an epoch may be smaller.
    class_weights : np.ndarray [shape=(n_genres,)], optional
        Weight of a clip of each genre in the loss; if given, a batch has the weights as its third part.
    seed : int, optional
        Seed of the order; without it the clips keep their order.
    epoch : int
        Epochs already done. The order depends on seed and epoch only, so that a resumed training sees the same batches.
    augment : callable, optional
        Called with the clips of each batch; its generator, too, depends on seed, epoch and batch only.
    """

    def __init__(
        self,
        X: Any,
        y: np.ndarray,
        n_genres: int,
        batch_size: int,
        class_weights: np.ndarray | None = None,
        *,
        seed: int | None = None,
        epoch: int = 0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.weights = None if class_weights is None else np.asarray(class_weights, np.float32)[y]
        self.X = X
        self.labels = np.eye(n_genres, dtype=np.float32)[y]
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = epoch
        self.augment = augment
        self._shuffle_clips()

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        positions = np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])
        clips = np.asarray(self.X[positions])
        if self.augment:
            clips = self.augment(clips, np.random.default_rng([self.seed or 0, self.epoch, index]))
        batch = (clips, self.labels[positions])
        return batch if self.weights is None else (*batch, self.weights[positions])

    def on_epoch_end(self) -> None:
        """Shuffle the clips for the next epoch."""
        self.epoch += 1
        self._shuffle_clips()

    def _shuffle_clips(self) -> None:
        """Set the order of this epoch."""
        self.order = np.arange(len(self.labels))
        if self.seed is not None:
            self.order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.labels))


class EpochCheckpoint(keras.callbacks.Callback):
    """Callback that reports each epoch, saves it, and stops a training that no longer improves.

    Keras's BackupAndRestore restores weights and epoch, but not the history, the best epoch or the epochs without
    improvement. Here the history, written last, is what counts; the weights of its last and its best epoch are kept.

    Parameters
    ----------
    directory : Path
        Folder of ``history.json`` and ``epoch-*.npy``.
    key : dict
        Identifies the training, and contains its ``seed``; a history with another key is not continued.
    patience : int
        Epochs without a lower validation loss after which to stop.
    on_epoch : callable, optional
        Called before the epoch is saved, so that after a kill in between it is reported twice rather than never.
    n_clips : int
        Number of training clips, for ``images_per_second``.
    """

    def __init__(
        self, directory: Path, key: dict[str, Any], patience: int, on_epoch: OnEpoch | None = None, n_clips: int = 0
    ) -> None:
        super().__init__()
        self.directory = directory
        self.key = key
        self.patience = patience
        self.on_epoch = on_epoch
        self.n_clips = n_clips
        history = _read_history_file(directory)
        self.rows: list[dict[str, float]] = history["epochs"] if history["key"] == key else []

    @property
    def epochs_done(self) -> int:
        """Number of epochs saved."""
        return len(self.rows)

    @property
    def best_epoch(self) -> int:
        """Epoch, from 1, of the lowest validation loss."""
        return 1 + int(np.argmin([row["val_loss"] for row in self.rows]))

    @property
    def patience_exhausted(self) -> bool:
        """True once `patience` epochs have passed since the best one."""
        return bool(self.rows) and self.epochs_done - self.best_epoch >= self.patience

    def checkpoint_path(self, epoch: int) -> Path:
        """Return the file of the weights and the optimizer after an epoch."""
        return self.directory / f"epoch-{epoch:04d}.npy"

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock, and seed the dropout of this epoch: a saved model lacks the state of its generators."""
        self.started = time.perf_counter()
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        process_seed, *seeds = _generator_seeds(self.key["seed"], epoch, 1 + len(states))
        if keras.backend.backend() == "torch":
            # Its dropout draws from the process's own generator. With TensorFlow, seeding discards the compiled
            # functions, which then take a third of a small network's epoch to be prepared again.
            keras.utils.set_random_seed(process_seed)
        for state, seed in zip(states, seeds, strict=True):
            state.assign([seed, 0])

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Stop the clock of the training batches, before the validation of the epoch."""
        self.fitted = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report and save the epoch, and stop if the patience is exhausted.

        Raises
        ------
        TrainingError
            If the loss is not finite.
        """
        row = {name: float(value) for name, value in (logs or {}).items()}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row["seconds"] = time.perf_counter() - self.started
        row["images_per_second"] = self.n_clips / (self.fitted - self.started)
        if not np.isfinite([row["loss"], row["val_loss"]]).all():
            raise TrainingError(f"the loss is not finite after epoch {epoch + 1}; try a lower learning_rate")
        if self.on_epoch:
            self.on_epoch(epoch + 1, row)
        self._save_epoch(row)
        self.model.stop_training = self.patience_exhausted

    def _save_epoch(self, row: dict[str, float]) -> None:
        """Write the weights, then the history that refers to them, and remove weights no longer needed."""
        self.rows.append(row)
        write_atomically(self.checkpoint_path(self.epochs_done), lambda path: write_checkpoint(self.model, path))
        write_json(self.directory / "history.json", {"key": self.key, "epochs": self.rows})
        needed = {self.checkpoint_path(epoch) for epoch in (self.epochs_done, self.best_epoch)}
        for path in set(self.directory.glob("epoch-*.npy")) - needed:
            path.unlink()


def train_network(
    model: keras.Model,
    data: TrainingData,
    directory: Path,
    *,
    key: dict[str, Any],
    epochs: int,
    batch_size: int,
    patience: int,
    on_epoch: OnEpoch | None = None,
    class_weights: np.ndarray | None = None,
    augment: Augment | None = None,
) -> keras.Model:
    """Train until the epochs or the patience are exhausted, resuming where a killed training stopped.

    Parameters
    ----------
    model : keras.Model
        Compiled, for one-hot labels, with `accuracy` as a metric.
    data : TrainingData
        Spectrograms and labels.
    directory : Path
        Folder of the state; it may be deleted once the model is saved.
    key : dict
        Identifies the training, in JSON's types, and contains the ``seed`` of the order of the clips and of dropout; a
        state in `directory` with another key is not continued.
    epochs, batch_size, patience : int
        Maximum of epochs; clips per step; epochs without a lower validation loss after which to stop.
    on_epoch : callable, optional
        Receives ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``learning_rate``, ``seconds`` and
        ``images_per_second`` (in training, without validation).
    class_weights : np.ndarray [shape=(k,)], optional
        Weight of a clip of each genre in the loss, of training and of validation, by which the epoch is chosen.
    augment : callable, optional
        Changes the training clips of each batch at random, see `ClipBatches`.

    Returns
    -------
    keras.Model
        `model`, with the weights of the epoch of the lowest validation loss.

    Raises
    ------
    TrainingError
        If there is no validation clip, the loss is not finite, or memory does not suffice.
    """
    if not len(data.y_validation):
        raise TrainingError("no validation clips to choose the best epoch with; add recordings")
    record_facts(directory, backend=keras.backend.backend(), device=devices.detect_device())
    class_weights_applied = str(class_weights is not None).lower()
    record_facts(directory, precision=model.dtype_policy.name, class_weights_applied=class_weights_applied)
    checkpoint = EpochCheckpoint(directory, key, patience, on_epoch, n_clips=len(data.y_train))
    epochs_done = checkpoint.epochs_done
    if epochs_done:
        read_checkpoint(model, checkpoint.checkpoint_path(epochs_done))
    if epochs_done < epochs and not checkpoint.patience_exhausted:
        k = len(data.genres)
        train = ClipBatches(
            *(data.X_train, data.y_train, k, batch_size, class_weights),
            seed=key["seed"],
            epoch=epochs_done,
            augment=augment,
        )
        validation = ClipBatches(data.X_validation, data.y_validation, k, min(batch_size, PREDICT_BATCH), class_weights)
        with devices.translate_out_of_memory(batch_size):
            model.fit(
                train,
                validation_data=validation,
                initial_epoch=epochs_done,
                epochs=epochs,
                callbacks=[checkpoint],
                shuffle=False,  # Keras would shuffle the batches, in an order that a resumed training cannot repeat
                verbose=0,
            )
    read_checkpoint(model, checkpoint.checkpoint_path(checkpoint.best_epoch))
    return model


def write_checkpoint(model: keras.Model, path: Path) -> None:
    """Write weights and optimizer of a compiled model, one array after the other.

    This takes a tenth of the time of Keras's own format, which copies the arrays into an HDF5 file and that into an
    archive with a checksum, as long as a small network's epoch on a few hundred clips.
    """
    with path.open("wb") as file:
        for variable in _state_variables(model):
            np.save(file, keras.ops.convert_to_numpy(variable))


def read_checkpoint(model: keras.Model, path: Path) -> None:
    """Load weights and optimizer from `write_checkpoint` into a compiled model of the same layers and optimizer."""
    with path.open("rb") as file:
        for variable in _state_variables(model):
            variable.assign(np.load(file, allow_pickle=False))


def _state_variables(model: keras.Model) -> Iterator[keras.Variable]:
    """Iterate over the variables that a training changes, in the order of the layers."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    yield from (*model.weights, *model.optimizer.variables)


def training_history(directory: Path) -> pd.DataFrame:
    """Return the epochs trained so far: index ``epoch`` from 1, columns as `train_network` reports; may be empty."""
    rows = pd.DataFrame(_read_history_file(directory)["epochs"])
    return rows.set_index(pd.RangeIndex(1, len(rows) + 1, name="epoch"))


def record_facts(directory: Path, **facts: str) -> None:
    """Add facts to those of the training in `directory`."""
    write_json(directory / "facts.json", training_facts(directory) | facts)


def training_facts(directory: Path) -> dict[str, str]:
    """Return the facts from `record_facts`: backend, device, precision, and any of the model; {} before training."""
    return read_json(directory / "facts.json") or {}


def labels_digest(data: TrainingData) -> str:
    """Return a hash of the genres and all labels, twelve hexadecimal digits."""
    labels = [np.asarray(y, np.int64).tobytes() for y in (data.y_train, data.y_validation)]
    return hashlib.sha256(b"\1".join(["\0".join(data.genres).encode(), *labels])).hexdigest()[:12]


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model in Keras's own format; `path` ends with ``.keras``."""
    model.save(path)


def load_model(path: Path) -> keras.Model:
    """Read what `save_model` wrote, in safe mode: no code from the file is run.

    Raises
    ------
    DataError
        If the file is damaged or needs code of its own to be run.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, BadZipFile) as error:
        raise DataError(f"cannot read {path} as a Keras model ({error}); train the model again") from error


def predict_proba(model: keras.Model, X: Any) -> np.ndarray:
    """Return softmax outputs [shape=(n, k), dtype=float32] of clips [shape=(n, ...)]; threads may share the model.

    The model is called directly: its ``predict`` costs tens of milliseconds and builds a function on first use.
    """
    batches = (np.asarray(X[start : start + PREDICT_BATCH]) for start in range(0, len(X), PREDICT_BATCH))
    return np.concatenate([keras.ops.convert_to_numpy(model(batch, training=False)) for batch in batches])


def _generator_seeds(seed: int, epoch: int, n: int) -> list[int]:
    """Draw n seeds for an epoch, one per generator; of 31 bits, since PyTorch's backend keeps them in int32."""
    return np.random.default_rng([seed, epoch]).integers(2**31, size=n).tolist()


def _read_history_file(directory: Path) -> dict[str, Any]:
    """Read the history file; without one, return a history of no epochs and no key."""
    return read_json(directory / "history.json") or {"key": None, "epochs": []}
