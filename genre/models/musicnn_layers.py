"""The music network in Keras, and its training: its layers with the published weights, head, patches of clips.

Loads Keras and its backend. Every layer is Keras's own, so that a saved model needs nothing of this package.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import keras
import numpy as np
from keras import Input, layers, ops

from genre.inputs.musicnn import KERNELS, N_MELS, N_POOLED, PATCH_FRAMES, MusicnnWeights, load_weights
from genre.models import OnEpoch
from genre.models.vgg_layers import NetworkTraining

_FRONT_END = tuple(KERNELS)[:5]
_DENSE = tuple(KERNELS)[5:8]


class Patches:
    """The patches of some clips, one clip after the other, read on access.

    Parameters
    ----------
    X : array-like [shape=(n, t, N_MELS), dtype=float16]
        Spectrograms of at least one patch.
    """

    def __init__(self, X: Any) -> None:
        self.X = X
        self.per_clip = count_patches(np.asarray(X[:1]).shape[1])

    def __len__(self) -> int:
        return len(self.X) * self.per_clip

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        """Return the patches at these positions, shape ``(m, PATCH_FRAMES, N_MELS)``."""
        positions = np.arange(len(self))[at]
        clips, clip = np.unique(positions // self.per_clip, return_inverse=True)
        S = np.asarray(self.X[clips])[:, : self.per_clip * PATCH_FRAMES]
        return S.reshape(len(clips), self.per_clip, PATCH_FRAMES, -1)[clip, positions % self.per_clip]


@dataclass
class MusicnnTraining(NetworkTraining):
    """One training of musicnn: `NetworkTraining` of patches, whose final model takes clips.

    Attributes
    ----------
    weights : str
        Path of the published weights.
    """

    base_name: ClassVar[str] = "musicnn"

    def __post_init__(self) -> None:
        self.published = load_weights(str(self.weights))
        self.clips = self.data
        train = Patches(self.clips.X_train)
        self.data = replace(
            self.clips,
            X_train=train,
            y_train=np.repeat(self.clips.y_train, train.per_clip),
            X_validation=Patches(self.clips.X_validation),
            y_validation=np.repeat(self.clips.y_validation, train.per_clip),
        )
        super().__post_init__()

    def fit_network(self, model: keras.Model, on_epoch: OnEpoch | None) -> keras.Model:
        """Train every weight of a network, in each epoch on one patch of every clip."""
        data = replace(self.data, X_train=self.clips.X_train, y_train=self.clips.y_train)
        epochs, learning_rate = self.hp["epochs"], self.hp["learning_rate"]
        return self._compile_and_fit(model, data, self.directory, epochs, learning_rate, on_epoch, draw_patches)

    def build_final_model(self, trained: keras.Model) -> keras.Model:
        """Build the network to be saved, which takes clips and averages the probabilities of their patches."""
        network = super().build_final_model(trained)
        shape = np.asarray(self.clips.X_train[:1]).shape[1:]
        n = count_patches(shape[0])
        inputs = Input(shape, dtype=self.dtype)
        patches = ops.reshape(inputs[:, : n * PATCH_FRAMES], (-1, *self.shape))
        proba = ops.reshape(network(patches), (-1, n, len(self.data.genres)))
        return keras.Model(inputs, ops.mean(proba, axis=1), name=self.name)

    def _body_parts(self) -> list[keras.Model]:
        return [build_musicnn(self.published)]

    def _head(self, shape: tuple[int, ...], dtype: str | None = None) -> keras.Model:
        """Build dropout and softmax: logistic regression, with its penalty as scikit-learn scales it."""
        penalty = keras.regularizers.L2(0.5 / (self.hp["C"] * len(self.clips.y_train)))
        softmax = layers.Dense(
            len(self.data.genres), "softmax", kernel_initializer="zeros", kernel_regularizer=penalty, dtype="float32"
        )
        return keras.Sequential([Input(shape, dtype=dtype), layers.Dropout(self.hp["dropout"]), softmax], name="head")


def count_patches(n_frames: int) -> int:
    """Return the number of whole patches in some frames."""
    return n_frames // PATCH_FRAMES


def draw_patches(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut one patch out of each clip, from anywhere.

    Parameters
    ----------
    X : np.ndarray [shape=(n, t, N_MELS)]
        Spectrograms of at least one patch.
    rng : np.random.Generator
        Draws the first frames.

    Returns
    -------
    np.ndarray [shape=(n, PATCH_FRAMES, N_MELS)]
        A patch of each.
    """
    first = rng.integers(X.shape[1] - PATCH_FRAMES + 1, size=(len(X), 1))
    patches: np.ndarray = X[np.arange(len(X))[:, np.newaxis], first + np.arange(PATCH_FRAMES)]
    return patches


def build_musicnn(weights: MusicnnWeights) -> keras.Model:
    """Build musicnn up to its pooled activations, normalised, without what training left as good as zero.

    Of the front end's filters only those that are live are kept, see `MusicnnWeights.is_live`: 64 of 561 in the
    published weights. The others give a constant, which a channel of ones stands for, so that the outputs are those of
    the whole network. A patch takes 6 ms instead of 125, and of the pools those of the kept channels remain, 512 of
    1506. The normalisations are fixed: what further training changes are kernels and biases.

    Parameters
    ----------
    weights : MusicnnWeights
        From `genre.inputs.musicnn.load_weights`.

    Returns
    -------
    keras.Model
        Maps patches [shape=(n, PATCH_FRAMES, N_MELS), dtype=float16] to the maxima, then the means over time of the
        kept channels [shape=(n, m)], normalised.
    """
    live = weights.front_end.live
    inputs = Input((PATCH_FRAMES, N_MELS), dtype="float16")
    S = _normalise("input", ops.expand_dims(ops.cast(inputs, "float32"), axis=-1), weights)
    front_end = layers.Concatenate(name="front_end")([_apply_filters(name, S, weights) for name in _FRONT_END])
    x = layers.Concatenate(name="with_ones")([front_end, ops.ones_like(front_end[..., :1])])
    channels = [front_end]
    for name in _DENSE:
        y = _convolve_time(name, x, weights)
        x = y if len(channels) == 1 else layers.Add(name=f"{name}_sum")([x, y])
        channels.append(x)
    joined = layers.Concatenate(name="channels")(channels)
    pools = layers.Concatenate(name="pools")([ops.max(joined, axis=1), ops.mean(joined, axis=1)])
    kept = np.flatnonzero(np.pad(live, (0, N_POOLED - len(live)), constant_values=True))
    both = np.concatenate([2 * kept, 2 * kept + 1])  # of each channel in turn the maximum and the mean
    return keras.Model(inputs, _normalise("pools", pools, weights, both), name="musicnn")


def _normalise(name: str, x: Any, weights: MusicnnWeights, taken: np.ndarray | slice = slice(None)) -> Any:
    """Apply a batch normalisation of `genre.inputs.musicnn.NORMS`, or some channels of it.

    Keras's own layer would take means and variances of the batch while a network around it is trained.
    """
    scale, shift = weights.scale_and_shift(name)
    return layers.Rescaling(scale[taken].tolist(), shift[taken].tolist(), name=f"{name}_norm")(x)


def _apply_filters(name: str, S: Any, weights: MusicnnWeights) -> Any:
    """Apply the live filters of a layer of the front end, then the maximum over frequency."""
    live = weights.is_live(name)
    kernel = weights.arrays[f"{name}_kernel"][..., live]
    if is_timbral := kernel.ndim == 3:
        S = layers.ZeroPadding2D(((len(kernel) // 2, len(kernel) // 2), (0, 0)), name=f"{name}_padding")(S)
    size = kernel.shape[:2] if is_timbral else (len(kernel), 1)
    padding = "valid" if is_timbral else "same"
    convolution = layers.Conv2D(kernel.shape[-1], size, padding=padding, activation="relu", name=name)
    y = convolution(S)
    convolution.set_weights([kernel.reshape(*size, 1, -1), weights.arrays[f"{name}_bias"][live]])
    return ops.max(_normalise(name, y, weights, live), axis=2)


def _convolve_time(name: str, x: Any, weights: MusicnnWeights) -> Any:
    """Apply a dense layer, which convolves all channels over time."""
    kernel = weights.arrays[f"{name}_kernel"]
    if name == _DENSE[0]:
        kernel = _fold_constants(kernel, weights)
    convolution = layers.Conv1D(kernel.shape[-1], len(kernel), padding="same", activation="relu", name=name)
    y = convolution(x)
    convolution.set_weights([kernel, weights.arrays[f"{name}_bias"]])
    return _normalise(name, y, weights)


def _fold_constants(kernel: np.ndarray, weights: MusicnnWeights) -> np.ndarray:
    """Return a kernel on all channels of the front end as one on the live channels and a channel of ones."""
    front_end = weights.front_end
    constants = np.maximum(front_end.bias, 0) * front_end.scale + front_end.shift
    dropped = constants[~front_end.live] @ kernel[:, ~front_end.live]
    return np.concatenate([kernel[:, front_end.live], dropped[:, np.newaxis]], axis=1)
