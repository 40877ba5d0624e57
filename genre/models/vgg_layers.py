"""Networks on the picture of a spectrogram, part by part: picture, VGG-16, head, and how each is trained.

Loads Keras and its backend. Every layer is Keras's own, so that a saved model needs nothing of this package.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import keras
import numpy as np
from keras import Input, layers, ops

from genre.errors import DataError, TrainingError
from genre.files import write_atomically
from genre.inputs import spectrogram
from genre.models import OnEpoch, TrainingData, devices, keras_training

#: Mean of ImageNet's pictures by channel, blue first, which the weights were trained without (keras.applications).
IMAGENET_MEAN = np.array([103.939, 116.779, 123.68], dtype=np.float32)

#: Kept outputs of a base in one folder, the least recently used going first: of training and validation clips, for four
#: bases or settings. One is 37 kB a clip.
MAX_CACHED_OUTPUTS = 8

#: Keras's name of the ImageNet weights without the three dense layers.
IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"


@dataclass
class NetworkTraining:
    """One training of one network.

    Attributes
    ----------
    name : str
        Of the model.
    data : Data
        Spectrograms and labels.
    seed : int
        Of the weights, the dropout and the order of the clips.
    directory : Path
        Of its state.
    hp : dict
        All hyper-parameters.
    weights : str or None
        Of VGG-16: ``imagenet``, a file, ``none`` for random ones; None for a network without it.
    hidden : tuple of int
        Units of the dense layers before the softmax.
    """

    name: str
    data: TrainingData
    seed: int
    directory: Path
    hp: dict[str, Any]
    weights: str | None
    hidden: tuple[int, ...]
    base_digest: str = field(default="", init=False)

    def __post_init__(self) -> None:
        keras.utils.set_random_seed(self.seed)
        self.shape = tuple(np.asarray(self.data.X_train[:1]).shape[1:])
        self.policy = devices.choose_precision(self.hp["precision"])
        counts = np.bincount(self.data.y_train, minlength=len(self.data.genres))
        balanced = len(self.data.y_train) / (len(counts) * counts)
        self.class_weights = balanced if self.hp["class_weights"] else None

    def build_network(self, policy: str, *, frozen: bool = False) -> keras.Model:
        """The whole network, from stored bytes to probabilities, its head untrained."""
        with devices.dtype_policy(policy):
            body = self._body(frozen=frozen)
            return chain_layers(self.shape, [*body.layers[1:], self._head(body.output.shape[1:])], self.name)

    def fit_head(self, directory: Path, epochs: int, learning_rate: float, on_epoch: OnEpoch | None) -> keras.Model:
        """Train the head on outputs of the base, which runs once over the clips and never learns."""
        with devices.dtype_policy(self.policy):
            body, data = self._body(frozen=True), self.data
            X = [self._base_outputs(body, X) for X in (data.X_train, data.X_validation)]
            head = self._head(X[0].shape[1:], dtype="float16")
        cached = replace(data, X_train=X[0], X_validation=X[1])
        return self._compile_and_fit(head, cached, directory, epochs, learning_rate, on_epoch)

    def fit_network(self, model: keras.Model, on_epoch: OnEpoch | None) -> keras.Model:
        """Train every weight of a network."""
        hp = self.hp
        return self._compile_and_fit(model, self.data, self.directory, hp["epochs"], hp["learning_rate"], on_epoch)

    def build_final_model(self, trained: keras.Model) -> keras.Model:
        """The network as it is saved: float32, the training's weights (or its head's), the prior put right."""
        head_only = trained.name == "head"
        model = self.build_network("float32", frozen=head_only)
        part = model.get_layer("head") if head_only else model
        part.set_weights(trained.get_weights())
        if self.class_weights is not None:
            bias = model.get_layer("head").layers[-1].bias
            # Weighted, it learnt probabilities times these weights; a shift before the softmax takes them out again.
            bias.assign(bias - np.log(self.class_weights).astype(np.float32))
        if self.weights:
            unchanged = weights_digest(model.get_layer("vgg16")) == self.base_digest
            keras_training.record_facts(self.directory, base_weights_unchanged=str(unchanged).lower())
        return model

    def _body(self, *, frozen: bool) -> keras.Model:
        """Picture and, where there is one, base."""
        size, parts = (
            self.hp["image_size"],
            [build_image_layers(self.shape, self.hp["image_size"], self.hp["preprocessing"])],
        )
        if self.weights:
            base = build_vgg16(self.weights, size)
            base.trainable = not frozen
            self.base_digest = self.base_digest or weights_digest(base)
            parts.append(base)
        return chain_layers(self.shape, parts, "body")

    def _head(self, shape: tuple[int, ...], dtype: str | None = None) -> keras.Model:
        """Flatten, the dense layers, softmax (Bahuleyan 2018, section 5.1; the order is the published code's)."""
        stack = [Input(shape, dtype=dtype), layers.Flatten()]
        for units in self.hidden:
            stack += [
                layers.Dense(units, kernel_regularizer=keras.regularizers.L2(self.hp["l2"])),
                layers.Dropout(self.hp["dropout"]),
                layers.ReLU(),
            ]
        stack.append(layers.Dense(len(self.data.genres), activation="softmax", dtype="float32"))
        return keras.Sequential(stack, name="head")

    def _base_outputs(self, body: keras.Model, X: Any) -> np.ndarray:
        """Outputs of the base for these clips, from an earlier training where it had the same."""
        settings = [self.base_digest, self.policy, self.hp["preprocessing"], keras.backend.backend(), keras.__version__]
        batch_size = self.hp["batch_size"]
        with devices.translate_out_of_memory(batch_size):
            return cached_outputs(body, X, self.data.cache_dir or self.directory, settings, batch_size=batch_size)

    def _compile_and_fit(
        self,
        model: keras.Model,
        data: TrainingData,
        directory: Path,
        epochs: int,
        learning_rate: float,
        on_epoch: OnEpoch | None,
    ) -> keras.Model:
        """Compile and train, going on where a killed training stopped."""
        directory.mkdir(parents=True, exist_ok=True)
        auc = keras.metrics.AUC(multi_label=True, num_labels=len(data.genres), name="auc")
        model.compile(
            keras.optimizers.Adam(learning_rate),
            "categorical_crossentropy",
            metrics=["accuracy", auc],
            jit_compile=devices.jit_compile_setting(dense=not self.weights or model.name == "head"),
        )
        hp = {k: v for k, v in self.hp.items() if k != "weights"}  # the base's hash says which, wherever they lie
        key = {
            "model": self.name,
            "seed": self.seed,
            "base": self.base_digest,
            "labels": keras_training.labels_digest(self.data),
        }
        return keras_training.train_network(
            model,
            data,
            directory,
            key=hp | key,
            epochs=epochs,
            batch_size=self.hp["batch_size"],
            patience=epochs,
            on_epoch=on_epoch,
            class_weights=self.class_weights,
        )


def chain_layers(shape: tuple[int, ...], parts: list[Any], name: str) -> keras.Model:
    """Parts one after the other, on stored spectrograms of this shape."""
    x = inputs = Input(shape, dtype="uint8")
    for part in parts:
        # A frozen part is also told that this is no training, whatever the rest does.
        x = part(x) if part.trainable else part(x, training=False)
    return keras.Model(inputs, x, name=name)


def build_image_layers(shape: tuple[int, ...], size: int, preprocessing: str) -> keras.Model:
    """Layers from the stored bytes to the picture that a network takes.

    Parameters
    ----------
    shape : tuple of int
        Of a spectrogram, (n_mels, n_frames).
    size : int
        Width and height of the picture.
    preprocessing : {"paper", "imagenet"}
        RGB in 0 .. 1, or BGR in 0 .. 255 less ImageNet's means.

    Returns
    -------
    keras.Model
        uint8 [shape=(n, n_mels, n_frames)] to float32 [shape=(n, size, size, 3)]; the colours are
        `genre.inputs.spectrogram.render_rgb_image`'s, then resized (bilinear).
    """
    colours = spectrogram.render_rgb_image(np.arange(256, dtype=np.uint8)[np.newaxis])[0].astype(np.float32)
    table = colours / 255 if preprocessing == "paper" else colours[:, ::-1] - IMAGENET_MEAN
    inputs = Input(shape, dtype="uint8")
    # In float32, exact here: TensorFlow keeps int32 off the GPU, and bfloat16 has too few bits.
    S = ops.flip(ops.cast(inputs, "float32"), axis=1)
    low = ops.min(S, axis=(1, 2), keepdims=True)
    spread = ops.maximum(ops.max(S, axis=(1, 2), keepdims=True) - low, 1.0)
    level = ops.cast(ops.minimum(ops.floor((S - low) * 256.0 / spread), 255.0), "int32")
    jet = layers.Embedding(256, 3, trainable=False, dtype="float32", name="jet")
    # Resizing(antialias=True) would be a kernel that TensorFlow has on the CPU alone, and without it the picture is
    # further from the published one; two products with fixed matrices are the same filter on every device.
    narrow = layers.EinsumDense("bhwc,wx->bhxc", (shape[0], size, 3), dtype="float32", name="narrow")
    tall = layers.EinsumDense("bhxc,hy->byxc", (size, size, 3), dtype="float32", name="tall")
    resized = tall(narrow(jet(level)))
    for layer, values in ((jet, table), (narrow, resize_matrix(shape[1], size)), (tall, resize_matrix(shape[0], size))):
        layer.set_weights([values])
    model = keras.Model(inputs, resized, name="picture")
    model.trainable = False
    return model


def resize_matrix(n: int, size: int) -> np.ndarray:
    """Bilinear resize of `n` samples to `size`, antialiased where that is fewer, as a matrix.

    Parameters
    ----------
    n, size : int
        Samples before and after.

    Returns
    -------
    np.ndarray [shape=(n, size), dtype=float32]
        Columns sum to 1; the filter is Pillow's ``BILINEAR``.
    """
    scale = max(n / size, 1.0)
    centres = (np.arange(size) + 0.5) * n / size
    weights = np.maximum(0.0, 1 - np.abs((np.arange(n)[:, np.newaxis] + 0.5 - centres) / scale))
    return (weights / weights.sum(axis=0)).astype(np.float32)


def build_vgg16(weights: str, size: int) -> keras.Model:
    """VGG-16 without its dense layers.

    Parameters
    ----------
    weights : str
        ``imagenet``, downloaded by Keras and kept; a file; ``none`` for random ones.
    size : int
        Width and height of the picture, 32 at least.

    Raises
    ------
    TrainingError
        If the weights cannot be had, or are another network's.
    """
    shape = (size, size, 3)
    if weights != "imagenet":
        base = keras.applications.VGG16(include_top=False, weights=None, input_shape=shape, name="vgg16")
        if weights != "none":
            _load_weights(base, Path(weights).expanduser())
        return base
    try:
        return keras.applications.VGG16(include_top=False, weights="imagenet", input_shape=shape, name="vgg16")
    except Exception as error:  # Keras raises a bare Exception where the download fails
        folder = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
        raise TrainingError(
            f"VGG-16's ImageNet weights are neither at hand nor to be downloaded ({shorten(str(error), 200)}); "
            f"put {IMAGENET_FILE} into {folder}, or give its path as weights, or train vgg16_scratch"
        ) from error


def _load_weights(base: keras.Model, path: Path) -> None:
    """Fill `base` from a file: of weights (``.h5``, ``.weights.h5``), or of a model that holds VGG-16 (``.keras``)."""
    if not path.is_file():
        raise TrainingError(f"there is no weights file {path}; give a .h5, .weights.h5 or .keras file, or imagenet")
    convolutions = [layer for layer in base.layers if layer.weights]
    random = [layer.get_weights()[0] for layer in convolutions]
    try:
        if path.suffix == ".keras":
            known = _layers_by_name(keras_training.load_model(path))
            for layer in convolutions:
                layer.set_weights(known[layer.name].get_weights())
        else:
            base.load_weights(path)
        # Keras passes over, with a warning, what it does not find in some files.
        if any(np.array_equal(layer.get_weights()[0], r) for layer, r in zip(convolutions, random, strict=True)):
            raise ValueError("a convolution is missing")
    except (ValueError, OSError, KeyError, TypeError, DataError) as error:
        raise TrainingError(
            f"{path} does not hold the weights of VGG-16 without its dense layers ({shorten(str(error), 300)}); "
            f"give a file such as Keras's {IMAGENET_FILE}"
        ) from error


def _layers_by_name(model: keras.Model) -> dict[str, Any]:
    """All layers, those of models within the model too."""
    found: dict[str, Any] = {}
    for layer in model.layers:
        found |= _layers_by_name(layer) if hasattr(layer, "layers") else {layer.name: layer}
    return found


def cached_outputs(body: keras.Model, X: Any, directory: Path, settings: list[str], *, batch_size: int) -> np.ndarray:
    """Outputs of a network that does not learn, computed once.

    Parameters
    ----------
    body : keras.Model
        Takes spectrograms.
    X : array-like [shape=(n, n_mels, n_frames), dtype=uint8]
        Spectrograms.
    directory : Path
        Where they are kept, by a hash of the clips, `settings` and the output's shape; `MAX_CACHED_OUTPUTS` at most.
    settings : list of str
        Whatever else the outputs depend on, the weights among it.
    batch_size : int
        Clips that cross the network at once.

    Returns
    -------
    np.ndarray [shape=(n, ...), dtype=float16]
        Memory-mapped. VGG-16's reach a few hundred, and half precision ends at 65504.

    Raises
    ------
    TrainingError
        If an output is not finite.
    """
    fingerprint = hashlib.sha256(repr((settings, body.output.shape, len(X))).encode())
    for batch in _batches(X, batch_size):
        fingerprint.update(batch.tobytes())
    path = directory / f"outputs-{fingerprint.hexdigest()[:16]}.npy"
    if not path.exists():
        write_atomically(path, lambda temporary: _write_outputs(body, X, temporary, batch_size))
    path.touch()
    for old in sorted(directory.glob("outputs-*.npy"), key=lambda p: p.stat().st_mtime_ns)[:-MAX_CACHED_OUTPUTS]:
        old.unlink()
    return np.load(path, mmap_mode="r")


def weights_digest(model: keras.Model) -> str:
    """Hash of all weights of a network."""
    whole = hashlib.sha256()
    for values in model.get_weights():
        whole.update(np.ascontiguousarray(values, np.float32).tobytes())
    return whole.hexdigest()[:16]


def _write_outputs(body: keras.Model, X: Any, path: Path, batch_size: int) -> None:
    """Write the outputs as one array."""
    body.compile()
    shape = (len(X), *body.output.shape[1:])
    kept = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    start = 0
    for batch in _batches(X, batch_size):
        values = np.asarray(body.predict_on_batch(batch), dtype=np.float16)
        if not np.isfinite(values).all():
            raise TrainingError("the base gives outputs that half precision cannot hold; check its weights")
        kept[start : start + len(batch)] = values
        start += len(batch)
    kept.flush()


def _batches(X: Any, size: int) -> Iterator[np.ndarray]:
    """The clips, some at a time."""
    return (np.asarray(X[start : start + size]) for start in range(0, len(X), size))
