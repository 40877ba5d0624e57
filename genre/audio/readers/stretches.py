"""Decoded frames to stretches of one length, mono and of one sampling rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import soxr

from genre.audio.readers.bitstreams import find_bitstream
from genre.audio.readers.mixing import mix_planes
from genre.errors import AudioError

#: Maximum number of channels of a frame that may be read as planar samples. With more, reading a planar frame crashes
#: the process; packed samples are read safely, whatever their number.
_MAX_PLANES = 7

#: Maximum number of channels that are kept for a whole window, to see whether they cancel each other out; more, which
#: no recording on two speakers has, are averaged frame by frame, so that memory does not grow with their number.
_MAX_KEPT = 16

#: Formats of samples that decoders of what was not lossily compressed return, in which a bit stream may hide.
_INTEGERS = {"s16", "s16p", "s32", "s32p"}


class Block(NamedTuple):
    """Samples of one frame, all channels: [channel, time], or [time, channel] where there are too many channels."""

    samples: np.ndarray
    sr: int
    is_planar: bool
    is_integer: bool

    @property
    def n(self) -> int:
        """Number of samples of a channel."""
        return self.samples.shape[1 if self.is_planar else 0]

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.samples.shape[0 if self.is_planar else 1]

    def cut(self, first: int, end: int | None = None) -> Block:
        """Return a stretch of it."""
        samples = self.samples[:, first:end] if self.is_planar else self.samples[first:end]
        return self._replace(samples=samples)


class BlockReader:
    """Reads the samples of decoded frames as float, whatever their format."""

    def __init__(self) -> None:
        self._resamplers: dict[tuple[str, str, int], Any] = {}

    def read(self, frame: Any) -> Iterator[Block]:
        """Yield the samples of a frame, as far as they are complete."""
        import av

        # A resampler takes frames of one kind only, and the kind may change within a file.
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        n_channels = frame.layout.nb_channels
        if kind not in self._resamplers:
            self._resamplers[kind] = av.AudioResampler(format=_sample_format(n_channels))
        for part in self._resamplers[kind].resample(frame):
            y = part.to_ndarray()
            is_planar = part.format.is_planar
            samples = y if is_planar else y.reshape(-1, n_channels)
            if n_channels > _MAX_KEPT:
                samples = samples.mean(axis=1, keepdims=True)
            yield Block(samples, kind[2], is_planar, kind[0] in _INTEGERS)


def _sample_format(n_channels: int) -> str:
    """Return FFmpeg's name of the format in which frames of so many channels are read: planar or packed float."""
    # Planar costs AAC nothing, packed takes two thirds longer.
    return "fltp" if n_channels <= _MAX_PLANES else "flt"


def cut_stretches(blocks: Iterator[Block], stretch_s: float) -> Iterator[list[Block]]:
    """Cut a sequence of blocks into stretches of one length.

    Parameters
    ----------
    blocks : iterator of Block
        Consecutive; rate and channels may change.
    stretch_s : float
        Length of a stretch, seconds.

    Yields
    ------
    list of Block
        At least one sample; the last stretch may be shorter.
    """
    stretch: list[Block] = []
    other_s = 0.0  # of the stretch, at other rates than that of the block
    n = 0  # at this rate
    for block in blocks:
        if stretch and block.sr != stretch[-1].sr:
            other_s += n / stretch[-1].sr
            n = 0
        while block.n >= (n_missing := max(1, round((stretch_s - other_s) * block.sr)) - n):
            yield [*stretch, block.cut(0, n_missing)]
            block = block.cut(n_missing)
            stretch = []
            other_s = 0.0
            n = 0
        stretch.append(block)
        n += block.n
    if sum(block.n for block in stretch):
        yield stretch


def mix_stretch(stretch: list[Block], notes: set[str]) -> tuple[np.ndarray, int]:
    """Mix the channels of a stretch.

    Parameters
    ----------
    stretch : list of Block
        Consecutive blocks.
    notes : set of str
        As for `genre.audio.readers.mixing.mix_planes`.

    Returns
    -------
    (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples and their sampling rate.

    Raises
    ------
    AudioError
        ``undecodable`` if the samples are a bit stream of compressed sound.
    """
    parts = []
    for (sr, is_planar, _, is_integer), group in groupby(stretch, lambda b: (b.sr, b.is_planar, b.n_channels, b[3])):
        samples = np.concatenate([block.samples for block in group], axis=1 if is_planar else 0)
        if not samples.size:
            continue
        planes = samples if is_planar else samples.T
        if is_integer and (name := find_bitstream(planes.T)):
            raise AudioError(
                "undecodable",
                f"its samples are a bit stream of {name}, not sound; give the file that its decoder makes of it",
            )
        parts.append((mix_planes(planes, notes), sr))
    return join_rates(parts)


def join_rates(parts: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """Join parts at one sampling rate, so that each keeps its time.

    Parameters
    ----------
    parts : list of (np.ndarray [shape=(n,), dtype=float32], int)
        Mono samples and their sampling rate.

    Returns
    -------
    (np.ndarray [shape=(n,), dtype=float32], int)
        All samples, at the highest rate; without a part none, at 0.
    """
    sr = max((sr for _, sr in parts), default=0)
    if len(parts) == 1:
        return parts[0]
    runs = [
        y if sr_part == sr else soxr.resample(y, sr_part, sr).astype(np.float32, copy=False)
        for sr_part, group in groupby(parts, lambda part: part[1])
        for y in [np.concatenate([y for y, _ in group])]
    ]
    return np.concatenate([np.empty(0, np.float32), *runs]), sr


def sum_seconds(parts: Iterable[tuple[int, int]]) -> float:
    """Return the length of parts of several rates, seconds, counted by rate so that no rounding adds up.

    Parameters
    ----------
    parts : iterable of (int, int)
        Number of samples, and sampling rate.
    """
    n_by_rate: dict[int, int] = {}
    for n, sr in parts:
        n_by_rate[sr] = n_by_rate.get(sr, 0) + n
    return sum(n / sr for sr, n in n_by_rate.items())
