"""What every Keras model shares: batches, training that survives a kill, files, predicting.

Loads Keras and its backend (TensorFlow unless ``KERAS_BACKEND`` says otherwise); nothing here is particular to one.
"""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
import pandas as pd

from genre.errors import DataError, TrainingError
from genre.files import read_json, write_atomically, write_json
from genre.models import OnEpoch, TrainingData, devices

#: Clips that cross the network at once when predicting; VGG-16 holds about 60 MB for each in its first layers.
PREDICT_BATCH = 32


class ClipBatches(keras.utils.PyDataset):
    """Clips with one-hot labels, read batch by batch; with a seed, in another order each epoch.

    Parameters
    ----------
    X : array-like [shape=(n, ...), dtype=uint8]
        Read by increasing position, which is what a memory map likes.
    y : np.ndarray [shape=(n,), dtype=int]
        Codes in ``0 .. n_genres - 1``.
    n_genres : int
        Length of a label.
    batch_size : int
        Clips; the last batch of an epoch may be smaller.
    class_weights : np.ndarray [shape=(n_genres,)], optional
        What a clip of each genre counts in the loss; a batch has a third part then.
    seed : int, optional
        Of the order; without it the clips come as they lie.
    epoch : int
        Epochs already done: the order depends on the seed and the epoch only, so that a resumed training sees the same.
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
    ) -> None:
        super().__init__()
        self.weights = None if class_weights is None else np.asarray(class_weights, np.float32)[y]
        self.X, self.labels, self.batch_size = X, np.eye(n_genres, dtype=np.float32)[y], batch_size
        self.seed, self.epoch = seed, epoch
        self._shuffle_clips()

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        chosen = np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])
        batch = np.asarray(self.X[chosen]), self.labels[chosen]
        return batch if self.weights is None else (*batch, self.weights[chosen])

    def on_epoch_end(self) -> None:
        """Deal the clips anew."""
        self.epoch += 1
        self._shuffle_clips()

    def _shuffle_clips(self) -> None:
        """Order of this epoch."""
        n = len(self.labels)
        self.order = (
            np.arange(n) if self.seed is None else np.random.default_rng([self.seed, self.epoch]).permutation(n)
        )


class EpochCheckpoint(keras.callbacks.Callback):
    """Report, keep and judge each epoch.

    Keras's BackupAndRestore brings back weights and epoch, but neither the history nor which epoch was best nor the
    patience spent. Here the history, written last, is the truth: of the weights the last and the best epoch's are kept.

    Parameters
    ----------
    directory : Path
        Where ``history.json`` and ``epoch-*.npy`` go.
    key : dict
        What is trained, its ``seed`` among it; a history of something else is not continued.
    patience : int
        Epochs without a lower validation loss after which to stop.
    on_epoch : callable, optional
        Called before the epoch is kept, so that a kill in between makes it report twice rather than never.
    n_clips : int
        Of training, for the speed.
    """

    def __init__(
        self, directory: Path, key: dict[str, Any], patience: int, on_epoch: OnEpoch | None = None, n_clips: int = 0
    ) -> None:
        super().__init__()
        self.n_clips = n_clips
        self.directory, self.key, self.patience, self.on_epoch = directory, key, patience, on_epoch
        kept = _read_history_file(directory)
        self.rows: list[dict[str, float]] = kept["epochs"] if kept["key"] == key else []

    @property
    def epochs_done(self) -> int:
        """Epochs kept."""
        return len(self.rows)

    @property
    def best_epoch(self) -> int:
        """Epoch, from 1, of the lowest validation loss."""
        return 1 + int(np.argmin([row["val_loss"] for row in self.rows]))

    @property
    def patience_exhausted(self) -> bool:
        """Whether the patience is spent."""
        return bool(self.rows) and self.epochs_done - self.best_epoch >= self.patience

    def checkpoint_path(self, epoch: int) -> Path:
        """Where weights and optimizer as they were after an epoch lie."""
        return self.directory / f"epoch-{epoch:04d}.npy"

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock, and the dropout of this epoch: a saved model does not hold where its random numbers were."""
        self.started = time.perf_counter()
        states = [variable for variable in self.model.variables if variable.name == "seed_generator_state"]
        common, *starts = _generator_seeds(self.key["seed"], epoch, 1 + len(states))
        keras.utils.set_random_seed(common)  # PyTorch's dropout draws from the process's own generator
        for state, start in zip(states, starts, strict=True):
            state.assign([start, 0])

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        """Stop the clock of the training batches: what follows is the validation of the epoch."""
        self.fitted = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Report the epoch, keep it, and stop if the patience is spent; TrainingError if the loss is not finite."""
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
        """Write the weights, then the history that names them, then drop what it no longer needs."""
        self.rows.append(row)
        write_atomically(self.checkpoint_path(self.epochs_done), lambda path: write_checkpoint(self.model, path))
        write_json(self.directory / "history.json", {"key": self.key, "epochs": self.rows})
        for path in set(self.directory.glob("epoch-*.npy")) - {
            self.checkpoint_path(self.epochs_done),
            self.checkpoint_path(self.best_epoch),
        }:
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
) -> keras.Model:
    """Train until the epochs or the patience are spent, going on where a killed training stopped.

    Parameters
    ----------
    model : keras.Model
        Compiled, with one-hot labels, and `accuracy` as a metric.
    data : Data
        Spectrograms and labels.
    directory : Path
        Of the state; it may be deleted once the model is saved.
    key : dict
        What is trained, in JSON's types, with the ``seed`` of the order of the clips and of dropout; the state of
        anything else in `directory` is not continued.
    epochs, batch_size, patience : int
        At most; clips; epochs without a lower validation loss.
    on_epoch : callable, optional
        Gets ``loss``, ``accuracy``, ``val_loss``, ``val_accuracy``, ``learning_rate``, ``seconds`` and
        ``images_per_second`` (in training, without validation).
    class_weights : np.ndarray [shape=(k,)], optional
        What a clip of each genre counts in the loss, of training and of validation, which chooses the epoch.

    Returns
    -------
    keras.Model
        `model`, as it was after the epoch of the lowest validation loss.

    Raises
    ------
    TrainingError
        If there is no validation clip, the loss is not finite, or memory does not suffice.
    """
    if not len(data.y_validation):
        raise TrainingError("no validation clip to choose the best epoch by; add recordings")
    record_facts(
        directory, backend=keras.backend.backend(), device=devices.detect_device(), precision=model.dtype_policy.name
    )
    record_facts(directory, class_weights_applied=str(class_weights is not None).lower())
    progress = EpochCheckpoint(directory, key, patience, on_epoch, n_clips=len(data.y_train))
    if progress.epochs_done:
        read_checkpoint(model, progress.checkpoint_path(progress.epochs_done))
    if progress.epochs_done < epochs and not progress.patience_exhausted:
        k, done, n = len(data.genres), progress.epochs_done, min(batch_size, PREDICT_BATCH)
        train = ClipBatches(data.X_train, data.y_train, k, batch_size, class_weights, seed=key["seed"], epoch=done)
        validation = ClipBatches(data.X_validation, data.y_validation, k, n, class_weights)
        with devices.translate_out_of_memory(batch_size):
            model.fit(
                train,
                validation_data=validation,
                initial_epoch=progress.epochs_done,
                epochs=epochs,
                callbacks=[progress],
                shuffle=False,  # of batches, by Keras, from where a resumed training could not go on
                verbose=0,
            )
    read_checkpoint(model, progress.checkpoint_path(progress.best_epoch))
    return model


def write_checkpoint(model: keras.Model, path: Path) -> None:
    """Write weights and optimizer of a compiled model, one array after the other.

    A tenth of the time of Keras's own file, which copies the arrays into an HDF5 and that into an archive with a
    checksum; a small network's epoch on a few hundred clips is no longer than that.
    """
    with path.open("wb") as file:
        for variable in _state_variables(model):
            np.save(file, keras.ops.convert_to_numpy(variable))


def read_checkpoint(model: keras.Model, path: Path) -> None:
    """Bring a compiled model of the same layers and optimizer to what `write_checkpoint` wrote of another."""
    with path.open("rb") as file:
        for variable in _state_variables(model):
            variable.assign(np.load(file, allow_pickle=False))


def _state_variables(model: keras.Model) -> Iterator[keras.Variable]:
    """Variables that a training changes, in the order of the layers."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    yield from (*model.weights, *model.optimizer.variables)


def training_history(directory: Path) -> pd.DataFrame:
    """Epochs trained so far: index ``epoch`` from 1, columns as `train_network` reports them; may be empty."""
    rows = pd.DataFrame(_read_history_file(directory)["epochs"])
    return rows.set_index(pd.RangeIndex(1, len(rows) + 1, name="epoch"))


def record_facts(directory: Path, **facts: str) -> None:
    """Add to what is known of a training in `directory`."""
    write_json(directory / "facts.json", training_facts(directory) | facts)


def training_facts(directory: Path) -> dict[str, str]:
    """What `record_facts` was told: backend, device and precision, and what a model adds; empty before the training."""
    return read_json(directory / "facts.json") or {}


def labels_digest(data: TrainingData) -> str:
    """Twelve hexadecimal digits that change with the genres or any label."""
    parts = [
        "\0".join(data.genres).encode(),
        *(np.asarray(y, np.int64).tobytes() for y in (data.y_train, data.y_validation)),
    ]
    return hashlib.sha256(b"\1".join(parts)).hexdigest()[:12]


def save_model(model: keras.Model, path: Path) -> None:
    """Write a model in Keras's own format; `path` ends with ``.keras``."""
    model.save(path)


def load_model(path: Path) -> keras.Model:
    """Read what `save_model` wrote, in safe mode: no code from the file is run.

    Raises
    ------
    DataError
        If the file is damaged or asks for code.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, KeyError, OSError, BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a Keras model ({error}); train it again") from error


def predict_proba(model: keras.Model, X: Any) -> np.ndarray:
    """Softmax outputs [shape=(n, k), dtype=float32] of clips [shape=(n, ...)]; may be called by several threads.

    The model is called, not its ``predict``, which costs tens of milliseconds and builds its function on first use.
    """
    batches = (np.asarray(X[start : start + PREDICT_BATCH]) for start in range(0, len(X), PREDICT_BATCH))
    return np.concatenate([keras.ops.convert_to_numpy(model(batch, training=False)) for batch in batches])


def _generator_seeds(seed: int, epoch: int, n: int) -> list[int]:
    """A number for each of n generators, this epoch's; in 31 bits, since PyTorch's backend keeps them in int32."""
    return np.random.default_rng([seed, epoch]).integers(2**31, size=n).tolist()


def _read_history_file(directory: Path) -> dict[str, Any]:
    """Contents of the history file."""
    return read_json(directory / "history.json") or {"key": None, "epochs": []}
