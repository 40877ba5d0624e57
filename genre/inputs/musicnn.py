"""The music network musicnn in numpy: its weights, its spectrogram, and what it computes of a patch of three seconds.

Pons and Serra 2019, *musicnn: pre-trained convolutional neural networks for music audio tagging*, arXiv 1909.06654. The
weights learnt from the Million Song Dataset and Last.fm's tags are in the wheel musicnn 0.1.0, as variables of
TensorFlow; `genre.weights` finds and converts them. Here they are a file of arrays, and no TensorFlow is needed.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.fft
import scipy.signal
import scipy.special
from threadpoolctl import ThreadpoolController

from genre.errors import DataError, UsageError
from genre.inputs.convolutions import TimbralFilters, place_timbral, temporal_maximum, timbral_maximum
from genre.inputs.filterbanks import mel_filterbank

#: Tags of the weights, in the network's order: ``MSD_LABELS`` of musicnn/configuration.py in the wheel.
MSD_TAGS: tuple[str, ...] = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock"),
    *("jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow"),
    *("electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient"),
    *("acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening"),
    *("sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad"),
    *("House", "happy"),
)

# Sampling rate (Hz), frame, hop (samples) and mel bands: musicnn/configuration.py.
SR = 16000
N_FFT = 512
HOP_LENGTH = 256
N_MELS = 96

#: Frames of a patch, three seconds: ``default_patch_frames`` of the published code.
PATCH_FRAMES = 187

#: Length of max_pool and mean_pool: the channels of the front end and of three layers.
N_POOLED = 753

#: Epsilon of the batch normalisation: the default of TensorFlow's layers, with which the network was trained.
EPSILON = 1e-3

#: Filters are left out that move their channel by less than this times the largest input. Training has left 497 of the
#: front end's 561 filters, and 48 of the 192 behind it, as good as zero: at most 2e-9 by this measure, where all others
#: have at least 9e-3. Without them a patch takes a third of the time.
NEGLIGIBLE = 1e-6

#: Layers with a kernel, in the network's order, and the shape of each kernel, input channels of one left out. Timbral
#: and temporal ones are named by the bands and frames that a filter spans.
KERNELS: dict[str, tuple[int, ...]] = {
    "timbral_38": (7, 38, 204),
    "timbral_67": (7, 67, 204),
    "temporal_128": (128, 51),
    "temporal_64": (64, 51),
    "temporal_32": (32, 51),
    "dense_1": (7, 561, 64),
    "dense_2": (7, 64, 64),
    "dense_3": (7, 64, 64),
    "penultimate": (2 * N_POOLED, 200),
    "tags": (200, len(MSD_TAGS)),
}

#: Batch normalisations and their lengths: those behind layers of `KERNELS` by the layer's name, those of the input and
#: of the pools.
NORMS: dict[str, int] = {
    "input": 1,
    **{name: shape[-1] for name, shape in KERNELS.items() if name != "tags"},
    "pools": 2 * N_POOLED,
}

#: Numbers of a batch normalisation.
NORM_PARTS = ("gamma", "beta", "mean", "variance")

#: All arrays of a file of weights, and their shapes.
SHAPES: dict[str, tuple[int, ...]] = {
    **{f"{name}_kernel": shape for name, shape in KERNELS.items()},
    **{f"{name}_bias": shape[-1:] for name, shape in KERNELS.items()},
    **{f"{name}_{part}": (n,) for name, n in NORMS.items() for part in NORM_PARTS},
}


class PatchOutputs(NamedTuple):
    """Outputs of the network for some patches, all of type float32.

    Attributes
    ----------
    tags : np.ndarray [shape=(n, 50)]
        Likelihood of each tag, 0 to 1.
    mean_pool, max_pool : np.ndarray [shape=(n, 753)]
        Mean and maximum over the patch of every channel of the convolutions.
    penultimate : np.ndarray [shape=(n, 200)]
        The last layer before the tags, normalised.
    """

    tags: np.ndarray
    mean_pool: np.ndarray
    max_pool: np.ndarray
    penultimate: np.ndarray


class _FrontEnd(NamedTuple):
    """The front end, made ready once: its live filters, each turned by the sign of its scale, and all its channels."""

    timbral: list[TimbralFilters]
    temporal: list[np.ndarray]
    live: np.ndarray
    sign: np.ndarray
    bias: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True, eq=False)
class MusicnnWeights:
    """Weights of the network.

    Attributes
    ----------
    arrays : dict of str to np.ndarray
        The arrays of `SHAPES`, float32, as they were trained.
    tags : tuple of str
        Names of the tags, in the network's order.
    license : str
        Terms under which the weights were published.
    """

    arrays: dict[str, np.ndarray]
    tags: tuple[str, ...] = MSD_TAGS
    license: str = ""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the arrays in hexadecimal: that of the values, whatever the file they were read from."""
        digest = hashlib.sha256()
        for name in sorted(SHAPES):
            digest.update(f"{name} {SHAPES[name]}".encode() + self.arrays[name].astype("<f4").tobytes())
        return digest.hexdigest()

    def scale_and_shift(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what one batch normalisation of `NORMS` multiplies each channel by, and then adds."""
        gamma, beta, mean, variance = (self.arrays[f"{name}_{part}"] for part in NORM_PARTS)
        scale = gamma / np.sqrt(variance + np.float32(EPSILON))
        return scale, beta - mean * scale

    def normalise(self, name: str, x: np.ndarray) -> np.ndarray:
        """Return `x`, shape (..., channels), after one batch normalisation of `NORMS`."""
        scale, shift = self.scale_and_shift(name)
        return x * scale + shift

    def is_live(self, name: str) -> np.ndarray:
        """Return which filters of a convolution are not negligible; of the others only the bias is left.

        See `NEGLIGIBLE`.
        """
        scale, _ = self.scale_and_shift(name)
        kernel = abs(self.arrays[f"{name}_kernel"])
        live: np.ndarray = kernel.reshape(-1, kernel.shape[-1]).sum(axis=0) * abs(scale) >= NEGLIGIBLE
        return live

    @cached_property
    def front_end(self) -> _FrontEnd:
        """The front end, ready for use."""
        live = [self.is_live(name) for name in _FRONT_END]
        bias = np.concatenate([self.arrays[f"{name}_bias"] for name in _FRONT_END])
        scale, shift = map(np.concatenate, zip(*map(self.scale_and_shift, _FRONT_END), strict=True))
        sign = np.where(scale < 0, np.float32(-1), np.float32(1))
        signs = np.split(sign, np.cumsum([len(taken) for taken in live])[:-1])
        kernels = [
            (self.arrays[f"{name}_kernel"] * turn)[..., taken]
            for name, turn, taken in zip(_FRONT_END, signs, live, strict=True)
        ]
        timbral = [place_timbral(kernel, N_MELS) for kernel in kernels[:2]]
        temporal = [np.ascontiguousarray(kernel.T) for kernel in kernels[2:]]
        return _FrontEnd(timbral, temporal, np.concatenate(live), sign, bias, scale, shift)

    @cached_property
    def dense(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Of each dense layer the positions of its live filters, and those filters."""
        live = {name: np.flatnonzero(self.is_live(name)) for name in _DENSE}
        return {name: (taken, self.arrays[f"{name}_kernel"][..., taken]) for name, taken in live.items()}


_FRONT_END = tuple(KERNELS)[:5]
_DENSE = tuple(KERNELS)[5:8]


def load_weights(path: str | Path) -> MusicnnWeights:
    """Read a file of weights.

    Parameters
    ----------
    path : str or Path
        A file that `save_weights` wrote. Nothing in it is executed.

    Returns
    -------
    MusicnnWeights
        The weights.

    Raises
    ------
    DataError
        If there is no such file, or it does not hold these arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in (*SHAPES, "tag_names", "license") if name not in file]
            if missing:
                raise DataError(f"{path} does not hold the weights of musicnn: {missing[0]} is missing; {_ADVICE}")
            found = {name: file[name] for name in (*SHAPES, "tag_names", "license")}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as weights of musicnn ({error}); {_ADVICE}") from None
    arrays = {name: found[name] for name in SHAPES}
    _check_arrays(arrays, path)
    return MusicnnWeights(arrays, tuple(map(str, found["tag_names"])), str(found["license"]))


#: What to do about a file that is none, for messages.
_ADVICE = "give the wheel musicnn 0.1.0 as downloaded, or an .npz that this project converted from it"


def _check_arrays(arrays: dict[str, np.ndarray], path: str | Path) -> None:
    """Refuse arrays of other shapes or types, and numbers that are not finite."""
    for name, shape in SHAPES.items():
        array = arrays[name]
        if array.shape != shape or array.dtype != np.float32:
            raise DataError(
                f"{path} does not hold the weights of musicnn: {name} is {array.dtype} of shape {array.shape}, "
                f"not float32 of shape {shape}; {_ADVICE}"
            )
        if not np.isfinite(array).all():
            raise DataError(f"{path} is damaged: {name} holds numbers that are not finite; {_ADVICE}")


def save_weights(path: str | Path, weights: MusicnnWeights) -> None:
    """Write weights for `load_weights`: a file of arrays, without pickle.

    Parameters
    ----------
    path : str or Path
        File to write, of any name.
    weights : MusicnnWeights
        The weights.
    """
    contents: dict[str, Any] = {"tag_names": np.array(weights.tags), "license": np.array(weights.license)}
    with Path(path).open("wb") as file:  # given a path, numpy would add .npz to a temporary name
        np.savez(file, allow_pickle=False, **contents, **weights.arrays)


def log_mel(y: np.ndarray) -> np.ndarray:
    """Compute the network's spectrogram of audio at 16 kHz.

    As musicnn's extractor does with librosa 0.10 and later, but in single precision throughout: the published code
    rounds the mel powers to half precision, where those of loud music are infinite.

    Parameters
    ----------
    y : np.ndarray [shape=(n,), dtype=float32]
        Mono audio at `SR`.

    Returns
    -------
    np.ndarray [shape=(1 + n // HOP_LENGTH, N_MELS), dtype=float32]
        ``log10(10000 * power + 1)``, low band first; 0 where there is silence.
    """
    padded = np.zeros(len(y) + N_FFT, np.float32)
    padded[N_FFT // 2 : N_FFT // 2 + len(y)] = y
    frames = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP_LENGTH]
    spectra = scipy.fft.rfft(frames * scipy.signal.get_window("hann", N_FFT).astype(np.float32))
    power = np.square(spectra.real) + np.square(spectra.imag)
    S = power @ mel_filterbank(SR, N_FFT, N_MELS)
    return np.log10(np.float32(10000) * S + np.float32(1))


def cut_patches(S: np.ndarray) -> np.ndarray:
    """Cut a spectrogram into patches, one after the other.

    Parameters
    ----------
    S : np.ndarray [shape=(t, N_MELS), dtype=float32]
        From `log_mel`.

    Returns
    -------
    np.ndarray [shape=(n, PATCH_FRAMES, N_MELS), dtype=float32]
        All whole patches, as the published code cuts them: three of ten seconds. Audio that is too short for one gives
        one patch, silent where the audio has ended.
    """
    n = len(S) // PATCH_FRAMES
    if not n:
        return np.pad(S, ((0, PATCH_FRAMES - len(S)), (0, 0)))[np.newaxis]
    return S[: n * PATCH_FRAMES].reshape(n, PATCH_FRAMES, S.shape[1])


def forward(patches: np.ndarray, weights: MusicnnWeights) -> PatchOutputs:
    """Compute the outputs of the network for patches of a spectrogram.

    Parameters
    ----------
    patches : np.ndarray [shape=(n, t, N_MELS), dtype=float32]
        From `cut_patches`.
    weights : MusicnnWeights
        From `load_weights`.

    Returns
    -------
    PatchOutputs
        A row per patch; equal to those of the original graph to about 1e-6.

    Raises
    ------
    UsageError
        If there is no patch, or one has another number of bands.
    """
    if patches.ndim != 3 or not patches.size or patches.shape[2] != N_MELS:
        raise UsageError(f"patches of shape {patches.shape}; pass shape (n, {PATCH_FRAMES}, {N_MELS}) from cut_patches")
    with _blas().limit(limits=1, user_api="blas"):  # two threads wait for each other: six times the time of the CPU
        channels = [_convolve(patch, weights) for patch in patches]
        max_pool = np.stack([x.max(axis=0) for x in channels])
        mean_pool = np.stack([x.mean(axis=0) for x in channels])
        tags, penultimate = apply_head(max_pool, mean_pool, weights)
    return PatchOutputs(tags, mean_pool, max_pool, penultimate)


def apply_head(max_pool: np.ndarray, mean_pool: np.ndarray, weights: MusicnnWeights) -> tuple[np.ndarray, np.ndarray]:
    """Compute the tags from the pools, as the end of the network does.

    Parameters
    ----------
    max_pool, mean_pool : np.ndarray [shape=(n, N_POOLED), dtype=float32]
        As in `PatchOutputs`.
    weights : MusicnnWeights
        From `load_weights`.

    Returns
    -------
    np.ndarray [shape=(n, 50), dtype=float32]
        Tags.
    np.ndarray [shape=(n, 200), dtype=float32]
        Penultimate layer.
    """
    a = weights.arrays
    pools = np.stack([max_pool, mean_pool], axis=-1).reshape(len(max_pool), -1)  # one of each in turn
    hidden = weights.normalise("pools", pools) @ a["penultimate_kernel"] + a["penultimate_bias"]
    penultimate = weights.normalise("penultimate", np.maximum(hidden, 0))
    logits = penultimate @ a["tags_kernel"] + a["tags_bias"]
    tags: np.ndarray = scipy.special.expit(logits)
    return tags, penultimate


@cache
def _blas() -> ThreadpoolController:
    """Return what sets the number of threads; to find the libraries takes milliseconds."""
    return ThreadpoolController()


def _convolve(patch: np.ndarray, weights: MusicnnWeights) -> np.ndarray:
    """Compute all channels that are pooled, shape (t, N_POOLED)."""
    layers = [_apply_front_end(weights.normalise("input", patch[..., np.newaxis])[..., 0], weights)]
    for name in _DENSE:
        x = np.maximum(_convolve_time(layers[-1], *weights.dense[name]) + weights.arrays[f"{name}_bias"], 0)
        y = weights.normalise(name, x)
        layers.append(y if len(layers) == 1 else y + layers[-1])
    return np.concatenate(layers, axis=1)


def _apply_front_end(S: np.ndarray, weights: MusicnnWeights) -> np.ndarray:
    """Compute the channels of the front end, shape (t, 561): convolution, ReLU and normalisation, then the maximum.

    The maximum is taken first, for the rest keeps the order of values or, below a negative gamma, reverses it.
    """
    front_end = weights.front_end
    greatest = [timbral_maximum(S, filters) for filters in front_end.timbral]
    x = np.zeros((len(S), len(front_end.live)), np.float32)
    x[:, front_end.live] = np.concatenate([*greatest, temporal_maximum(S, front_end.temporal)], axis=1)
    return np.maximum(front_end.sign * x + front_end.bias, 0) * front_end.scale + front_end.shift


def _convolve_time(x: np.ndarray, live: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve all channels over time with zeros beyond the ends, shape (t, channels) to (t, filters).

    Parameters
    ----------
    x : np.ndarray [shape=(t, n_channels)]
        Channels.
    live : np.ndarray [shape=(n_live,), dtype=int]
        Positions of the filters that are not negligible; the other ones give 0.
    kernel : np.ndarray [shape=(n_frames, n_channels, n_live)]
        Those filters.
    """
    n_frames, n_channels, n_live = kernel.shape
    reach = n_frames // 2
    products = np.zeros((len(x) + 2 * reach, n_frames, n_live), np.float32)
    # Every frame with each frame of the filters: no windows are copied.
    products[reach : reach + len(x)] = (x @ kernel.transpose(1, 0, 2).reshape(n_channels, -1)).reshape(
        len(x), n_frames, -1
    )
    y = np.zeros((len(x), KERNELS["dense_1"][-1]), np.float32)
    y[:, live] = sum(products[i : i + len(x), i] for i in range(n_frames))
    return y
