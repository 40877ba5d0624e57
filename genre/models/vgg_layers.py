"""Networks on a spectrogram as an image, part by part: image layers, VGG-16, head, and the training of each.

Loads Keras and its backend. Every layer is Keras's own, so that a saved model needs nothing of this package.
"""

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any, ClassVar

import keras
import numpy as np
from keras import Input, layers, ops

from genre.errors import DataError, TrainingError
from genre.inputs import spectrogram
from genre.models import OnEpoch, TrainingData, devices, keras_training
from genre.models.base_outputs import BaseOutputs, load_base_outputs

#: Mean of ImageNet's images per channel, blue first, subtracted when the weights were trained (keras.applications).
IMAGENET_MEAN = np.array([103.939, 116.779, 123.68], dtype=np.float32)

#: Keras's file name of the ImageNet weights without the three dense layers.
IMAGENET_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"


@dataclass
class NetworkTraining:
    """One training of one network.

    Attributes
    ----------
    name : str
        Name of the model.
    data : TrainingData
        Spectrograms and labels.
    seed : int
        Seed of the weights, the dropout and the order of the clips.
    directory : Path
        Folder of the training's state.
    hp : dict
        All hyper-parameters.
    weights : str or None
        Weights of VGG-16: ``imagenet``, a file, ``none`` for random ones; None for a network without VGG-16.
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
    output_scale: float = field(default=1.0, init=False)

    #: Layer of the final model that holds the trained weights.
    base_name: ClassVar[str] = "vgg16"

    def __post_init__(self) -> None:
        keras.utils.set_random_seed(self.seed)
        first = np.asarray(self.data.X_train[:1])
        self.shape = first.shape[1:]
        self.dtype = first.dtype.name
        self.policy = devices.choose_precision(self.hp["precision"])
        counts = np.bincount(self.data.y_train, minlength=len(self.data.genres))
        balanced = len(self.data.y_train) / (len(counts) * counts)
        self.class_weights = balanced if self.hp["class_weights"] else None

    def build_network(self, policy: str, *, frozen: bool = False) -> keras.Model:
        """Build the whole network, from stored bytes to probabilities, its head untrained."""
        with devices.dtype_policy(policy):
            body = self._body(frozen=frozen)
            parts = [*body.layers[1:], self._head(body.output.shape[1:])]
            return chain_layers(self.shape, parts, self.name, self.dtype)

    def fit_head(self, directory: Path, epochs: int, learning_rate: float, on_epoch: OnEpoch | None) -> keras.Model:
        """Train the head on outputs of the base, which runs once over the clips and is never trained."""
        with devices.dtype_policy(self.policy):
            body = self._body(frozen=True)
            X_train = self._base_outputs(body, self.data.X_train)
            X_validation = self._base_outputs(body, self.data.X_validation)
            self.output_scale = 1 / max(root_mean_square(X_train), 1e-6)
            head = self._head(X_train.shape[1:], dtype="float16")
        cached = replace(self.data, X_train=X_train, X_validation=X_validation)
        return self._compile_and_fit(head, cached, directory, epochs, learning_rate, on_epoch)

    def fit_network(self, model: keras.Model, on_epoch: OnEpoch | None) -> keras.Model:
        """Train every weight of a network."""
        hp = self.hp
        return self._compile_and_fit(model, self.data, self.directory, hp["epochs"], hp["learning_rate"], on_epoch)

    def fine_tune(self, on_epoch: OnEpoch | None) -> keras.Model:
        """Train the head first, then every weight; epochs are counted through both parts."""
        head_epochs = self.hp["head_epochs"]
        head = self.fit_head(self.directory / "head", head_epochs, self.hp["head_learning_rate"], on_epoch)
        model = self.build_network(self.policy)
        model.get_layer("head").set_weights(head.get_weights())

        def report_epoch(epoch: int, metrics: dict[str, float]) -> None:
            if on_epoch:
                on_epoch(head_epochs + epoch, metrics)

        return self.fit_network(model, report_epoch)

    def build_final_model(self, trained: keras.Model) -> keras.Model:
        """Build the network to be saved: float32, with the trained weights (or head) and the prior corrected."""
        head_only = trained.name == "head"
        model = self.build_network("float32", frozen=head_only)
        part = model.get_layer("head") if head_only else model
        part.set_weights(trained.get_weights())
        if self.class_weights is not None:
            bias = model.get_layer("head").layers[-1].bias
            # With class weights the softmax learns probabilities times the weights; a shift before it divides them out.
            bias.assign(bias - np.log(self.class_weights).astype(np.float32))
        if self.weights:
            unchanged = weights_digest(model.get_layer(self.base_name)) == self.base_digest
            keras_training.record_facts(self.directory, base_weights_unchanged=str(unchanged).lower())
        return model

    def _body(self, *, frozen: bool) -> keras.Model:
        """Build the layers below the head: the image and, where the network has one, the base."""
        parts = self._body_parts()
        if self.weights:
            base = parts[-1]
            base.trainable = not frozen
            self.base_digest = self.base_digest or weights_digest(base)
        return chain_layers(self.shape, parts, "body", self.dtype)

    def _body_parts(self) -> list[keras.Model]:
        """Build the image layers and, where the network has trained weights, its base last."""
        size = self.hp["image_size"]
        image = build_image_layers(self.shape, size, self.hp["preprocessing"], self.hp["colours"])
        return [image, build_vgg16(self.weights, size)] if self.weights else [image]

    def _head(self, shape: tuple[int, ...], dtype: str | None = None) -> keras.Model:
        """Build Flatten, dense layers and softmax (Bahuleyan 2018, section 5.1; in the published code's order).

        A head that is trained on a frozen base first scales its outputs to a root mean square of 1: ImageNet's base has
        outputs up to some hundreds, from which a head of the paper's initial weights learns to be certain and wrong.
        """
        stack = [Input(shape, dtype=dtype), layers.Flatten(), layers.Rescaling(self.output_scale)]
        for units in self.hidden:
            stack += [
                layers.Dense(units, kernel_regularizer=keras.regularizers.L2(self.hp["l2"])),
                layers.Dropout(self.hp["dropout"]),
                layers.ReLU(),
            ]
        stack.append(layers.Dense(len(self.data.genres), activation="softmax", dtype="float32"))
        return keras.Sequential(stack, name="head")

    def _base_outputs(self, body: keras.Model, X: Any) -> BaseOutputs:
        """Load the outputs of the base for these clips, computing those that no training with this base had before."""
        image = [self.hp.get(name, "") for name in ("preprocessing", "colours")]
        settings = [self.base_digest, self.policy, *image, keras.backend.backend(), keras.__version__]
        batch_size = self.hp["batch_size"]
        with devices.translate_out_of_memory(batch_size):
            return load_base_outputs(body, X, self.data.cache_dir or self.directory, settings, batch_size=batch_size)

    def _compile_and_fit(
        self,
        model: keras.Model,
        data: TrainingData,
        directory: Path,
        epochs: int,
        learning_rate: float,
        on_epoch: OnEpoch | None,
        augment: keras_training.Augment | None = None,
    ) -> keras.Model:
        """Compile and train a model, resuming where a killed training stopped."""
        directory.mkdir(parents=True, exist_ok=True)
        auc = keras.metrics.AUC(multi_label=True, num_labels=len(data.genres), name="auc")
        model.compile(
            keras.optimizers.Adam(learning_rate),
            "categorical_crossentropy",
            metrics=["accuracy", auc],
            jit_compile=devices.jit_compile_setting(dense=not self.weights or model.name == "head"),
        )
        # The base's hash identifies the weights, wherever their file is.
        hp = {name: value for name, value in self.hp.items() if name != "weights"}
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
            augment=augment,
        )


def chain_layers(shape: tuple[int, ...], parts: list[Any], name: str, dtype: str = "uint8") -> keras.Model:
    """Connect parts one after the other, on stored spectrograms of this shape and type."""
    inputs = Input(shape, dtype=dtype)
    x = inputs
    for part in parts:
        # A frozen part always runs in inference mode, also while the others are trained.
        x = part(x) if part.trainable else part(x, training=False)
    return keras.Model(inputs, x, name=name)


def build_image_layers(shape: tuple[int, ...], size: int, preprocessing: str, colours: str = "jet") -> keras.Model:
    """Build the layers from the stored bytes to the image that a network takes.

    Parameters
    ----------
    shape : tuple of int
        Shape of a spectrogram, (n_mels, n_frames).
    size : int
        Width and height of the image.
    preprocessing : {"paper", "imagenet"}
        RGB in 0 .. 1, or BGR in 0 .. 255 less ImageNet's means.
    colours : {"jet", "grey"}
        Colours of `genre.inputs.spectrogram.render_rgb_image`, or its levels as grey.

    Returns
    -------
    keras.Model
        Maps uint8 [shape=(n, n_mels, n_frames)] to float32 [shape=(n, size, size, 3)]: coloured, then resized
        (bilinear).
    """
    levels = np.arange(256, dtype=np.uint8)
    rgb = spectrogram.render_rgb_image(levels[np.newaxis])[0] if colours == "jet" else np.stack([levels] * 3, axis=1)
    rgb = rgb.astype(np.float32)
    table = rgb / 255 if preprocessing == "paper" else rgb[:, ::-1] - IMAGENET_MEAN
    inputs = Input(shape, dtype="uint8")
    # float32 is exact for these values; TensorFlow has no int32 kernels on the GPU, and bfloat16 has too few bits.
    S = ops.flip(ops.cast(inputs, "float32"), axis=1)
    low = ops.min(S, axis=(1, 2), keepdims=True)
    spread = ops.maximum(ops.max(S, axis=(1, 2), keepdims=True) - low, 1.0)
    level = ops.cast(ops.minimum(ops.floor((S - low) * 256.0 / spread), 255.0), "int32")
    jet = layers.Embedding(256, 3, trainable=False, dtype="float32", name="jet")
    # TensorFlow has a kernel for Resizing(antialias=True) on the CPU alone, and without antialiasing the image is
    # further from the published one. Products with two fixed matrices are the same filter on every device.
    narrow = layers.EinsumDense("bhwc,wx->bhxc", (shape[0], size, 3), dtype="float32", name="narrow")
    tall = layers.EinsumDense("bhxc,hy->byxc", (size, size, 3), dtype="float32", name="tall")
    resized = tall(narrow(jet(level)))
    for layer, values in ((jet, table), (narrow, resize_matrix(shape[1], size)), (tall, resize_matrix(shape[0], size))):
        layer.set_weights([values])
    model = keras.Model(inputs, resized, name="picture")  # saved models have this name, and "jet", "narrow" and "tall"
    model.trainable = False
    return model


def resize_matrix(n: int, size: int) -> np.ndarray:
    """Compute the matrix that resizes `n` samples to `size`, bilinear, antialiased when shrinking.

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
    """Build VGG-16 without its dense layers.

    Parameters
    ----------
    weights : str
        ``imagenet``, downloaded by Keras once; a file; ``none`` for random ones.
    size : int
        Width and height of the image, at least 32.

    Raises
    ------
    TrainingError
        If the weights cannot be loaded, or are another network's.
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
            f"VGG-16's ImageNet weights are not on this machine and cannot be downloaded ({shorten(str(error), 200)}); "
            f"put {IMAGENET_FILE} into {folder}, pass its path as weights, or train vgg16_scratch"
        ) from error


def _load_weights(base: keras.Model, path: Path) -> None:
    """Load weights into `base`, from a weights file (``.h5``, ``.weights.h5``) or a model with VGG-16 (``.keras``)."""
    if not path.is_file():
        raise TrainingError(f"no weights file {path}; pass a .h5, .weights.h5 or .keras file, or imagenet")
    convolutions = [layer for layer in base.layers if layer.weights]
    random_kernels = [layer.get_weights()[0] for layer in convolutions]
    try:
        if path.suffix == ".keras":
            saved = _layers_by_name(keras_training.load_model(path))
            for layer in convolutions:
                layer.set_weights(saved[layer.name].get_weights())
        else:
            base.load_weights(path)
        # Keras only warns about layers that some files lack, and leaves them at their random weights.
        kernels = [layer.get_weights()[0] for layer in convolutions]
        if any(map(np.array_equal, kernels, random_kernels)):
            raise ValueError("a convolution is missing")
    except (ValueError, OSError, KeyError, TypeError, DataError) as error:
        raise TrainingError(
            f"{path} does not hold the weights of VGG-16 without its dense layers ({shorten(str(error), 300)}); "
            f"pass a file such as Keras's {IMAGENET_FILE}"
        ) from error


def _layers_by_name(model: keras.Model) -> dict[str, Any]:
    """Return all layers by name, those of nested models included."""
    by_name: dict[str, Any] = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            by_name.update(_layers_by_name(layer))
        else:
            by_name[layer.name] = layer
    return by_name


def root_mean_square(outputs: BaseOutputs) -> float:
    """Compute the root mean square of the outputs of a base, clip by clip: of a data set they are many gigabytes."""
    sums = [np.square(outputs[np.array([n])], dtype=np.float32).mean() for n in range(len(outputs))]
    return float(np.sqrt(np.mean(sums)))


def weights_digest(model: keras.Model) -> str:
    """Return a hash of all weights of a network, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for values in model.get_weights():
        digest.update(np.ascontiguousarray(values, np.float32).tobytes())
    return digest.hexdigest()[:16]
