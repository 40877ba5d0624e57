"""The costly steps of `genre.inputs.stft` as plain loops, compiled by numba and kept on disk.

Each loop does what numpy does there, which stays the reference. They are compiled once on a machine, in eight seconds,
whichever copy of the package asks first; see `genre.inputs.compiled.disk_cache`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import numpy as np

from genre.config import AudioConfig
from genre.inputs import filterbanks
from genre.inputs.compiled import disk_cache, signals, spectra
from genre.inputs.stft import FEATURE_MELS, SHAPE_COLUMNS, Analysis, power_spectrum

_scratch = spectra.ScratchArrays()


class CompiledAnalysis(Analysis):
    """`Analysis` whose frames are gone through once, by one loop, and whose other loops are compiled too."""

    @classmethod
    def supports(cls, config: AudioConfig) -> bool:
        """Return whether the loops are compiled for such frames."""
        octaves = filterbanks.octave_bands(config.sr, config.n_fft)
        return config.n_fft == spectra.FRAME and max(n for _, n in octaves) <= spectra.MAX_EXTREMES

    def by_frame(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Compute attributes of `FrameBlock` for all frames; the digits do not depend on what else is computed."""
        wanted = set(names)
        rows = self._compute_in_one_pass(wanted)
        return rows | super().by_frame(wanted - set(rows))

    def _compute_in_one_pass(self, wanted: set[str]) -> dict[str, np.ndarray]:
        """Compute those of the wanted attributes that one pass over the frames yields."""
        with_features = bool(wanted & {"power", "mel", "spectral_shape", "octave_extremes"})
        with_emphasis = "emphasised_mel" in wanted
        if not (with_features or with_emphasis):
            return {}
        config = self.config
        samples = self._samples_by_hop()
        n_padded = _round_up(self.n_frames, spectra.LANES)
        octaves = _octave_table(config.sr, config.n_fft)
        heights = (1 + config.n_fft // 2, FEATURE_MELS, len(SHAPE_COLUMNS), 2 * len(octaves))
        features = spectra.FeatureRows(*(np.empty((n * with_features, n_padded), np.float32) for n in heights))
        emphasised = np.empty((config.n_mels * with_emphasis, n_padded), np.float32)
        rules = spectra.FeatureRules(
            hz=np.pad(self.bin_hz.astype(np.float64), (0, spectra.GROUP - 1)),
            offset=self.rules.spectral_offset,
            last_bandwidth=self.rules.last_bandwidth - 1,
            mel_bank=_grouped_mel_filterbank(config.sr, config.n_fft, FEATURE_MELS),
            octaves=octaves,
        )
        spectra.analyse_frames(
            samples,
            n_padded,
            _scratch.tools,
            with_features,
            rules,
            features,
            with_emphasis,
            _emphasis_response(config.n_fft, config.pre_emphasis),
            _grouped_mel_filterbank(config.sr, config.n_fft, config.n_mels),
            emphasised,
        )
        n = self.n_frames
        rows = {"emphasised_mel": emphasised[:, :n].T} if with_emphasis else {}
        if with_features:
            extremes = features.extremes.reshape(2, -1, n_padded)[:, :, :n].transpose(2, 0, 1)
            rows |= {name: getattr(features, name)[:, :n].T for name in ("power", "mel", "spectral_shape")}
            rows["octave_extremes"] = extremes
        self._correct_edges(rows)
        return {name: rows[name] for name in wanted & set(rows)}

    def _correct_edges(self, rows: dict[str, np.ndarray]) -> None:
        """Compute frames that reach beyond the clip anew: there neither filter nor offset is what it is within."""
        edge = np.flatnonzero(self.edge_frames)
        at = edge[:, np.newaxis] * self.config.hop_length - spectra.FRAME // 2 + np.arange(spectra.FRAME)
        is_inside = (at >= 0) & (at < len(self.y))
        frames = np.where(is_inside, self.y[np.clip(at, 0, len(self.y) - 1)], np.float32(0))
        if "emphasised_mel" in rows:
            emphasised = frames.copy()
            emphasised[:, 1:] -= np.float32(self.config.pre_emphasis) * frames[:, :-1]  # the window hides the first
            rows["emphasised_mel"][edge] = self.in_mel_bands(power_spectrum(emphasised * is_inside), self.config.n_mels)
        if "spectral_shape" in rows and self.rules.spectral_offset:
            with_offset = np.where(is_inside, frames + np.float32(self.rules.spectral_offset), np.float32(0))
            magnitude = self.compute_magnitude(with_offset).astype(np.float32)
            rows["spectral_shape"][edge] = self.compute_shape(magnitude)

    def _samples_by_hop(self) -> np.ndarray:
        """Return the samples of whole blocks of frames, shape (hop_length, n): the n-th of every hop in row n."""
        hop = self.config.hop_length
        n_hops = _round_up(self.n_frames, spectra.LANES) + -(-spectra.FRAME // hop)
        samples = _scratch.take_samples(hop, n_hops)
        signals.write_samples_by_hop(self.y, spectra.FRAME // 2, samples)
        return samples

    def find_peaks(self, S: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray]:
        """Find spectral peaks, and their heights."""
        bins = np.ascontiguousarray(S[:, low - 1 : high + 1].T)
        return signals.find_peaks(bins, np.float32(0.1) * S.max(axis=1), low - 1)

    def central_moments(self, x: np.ndarray) -> np.ndarray:
        """Compute the mean, and the second to fourth central moments."""
        return signals.central_moments(x)

    def mean_and_std(self, rows: np.ndarray) -> np.ndarray:
        """Compute the means, then the standard deviations, over the frames."""
        return signals.mean_and_std(np.ascontiguousarray(np.atleast_2d(rows.T), np.float64))

    def count_sign_changes(self) -> np.ndarray:
        """Count the changes of sign in each frame."""
        return signals.count_sign_changes(self.y, *self._levels())

    def mean_squares(self) -> np.ndarray:
        """Compute the mean square of each frame."""
        return signals.mean_squares(self.y, *self._levels())

    def _levels(self) -> tuple[np.float32, int, int, int]:
        """Return the offset of the level, and frame, hop and number of frames."""
        offset = np.float32(self.rules.level_offset)
        return offset, self.config.n_fft, self.config.hop_length, self.n_frames

    def autocorrelate(self, x: np.ndarray, window: np.ndarray) -> np.ndarray:
        """Average the autocorrelations of all windows."""
        if 2 * len(window) > spectra.HALF:
            return super().autocorrelate(x, window)
        power = spectra.sum_window_spectra(x.astype(np.float64), window, _scratch.tools)
        return np.fft.ifft(power).real[: len(window)] / (len(x) - len(window) + 1)


def load_loops() -> None:
    """Compile every loop, or load it from disk; of processes that start together each compiles what no other does."""
    loads = {spectra.analyse_frames: _load_pass_over_frames, spectra.sum_window_spectra: _load_other_loops}
    elsewhere = []
    for loop, load in loads.items():
        with disk_cache.lock_cache(loop, 0) as is_mine:
            if is_mine:
                load()
            else:
                elsewhere.append(loop)
    for loop in elsewhere:
        with disk_cache.lock_cache(loop, disk_cache.PATIENCE_S):
            loads[loop]()


def _load_pass_over_frames() -> None:
    """Compile what the pass over the frames calls, or load it."""
    CompiledAnalysis(np.ones(1, np.float32), AudioConfig()).by_frame(["power"])


def _load_other_loops() -> None:
    """Compile the other loops, or load them: together they take nearly as long."""
    analysis = CompiledAnalysis(np.ones(1, np.float32), AudioConfig())
    analysis.find_peaks(np.ones((1, 4), np.float32), 1, 3)
    analysis.central_moments(analysis.y)
    analysis.mean_and_std(np.ones((1, 2), np.float32))
    analysis.count_sign_changes()
    analysis.mean_squares()
    analysis.autocorrelate(np.ones(2), np.ones(2))


def _round_up(n: int, divisor: int) -> int:
    """Return the least multiple of a divisor that is not below n."""
    return -(-n // divisor) * divisor


@cache
def _emphasis_response(n_fft: int, pre_emphasis: float) -> np.ndarray:
    """Return the response of the pre-emphasis at each bin, complex128 (1 + n_fft // 2,)."""
    return 1 - pre_emphasis * np.exp(-2j * np.pi * np.arange(1 + n_fft // 2) / n_fft)


@cache
def _octave_table(sr: int, n_fft: int) -> np.ndarray:
    """Return `filterbanks.octave_bands` as numbers, int64 (7, 3): first bin, bin after the last, and extremes."""
    return np.array([(band.start, band.stop, n) for band, n in filterbanks.octave_bands(sr, n_fft)])


@cache
def _grouped_mel_filterbank(sr: int, n_fft: int, n_mels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `filterbanks.sparse_mel_filterbank`, each band filled up with zeros to whole groups."""
    first, ends, weights = filterbanks.sparse_mel_filterbank(sr, n_fft, n_mels)
    bands = [np.pad(band, (0, -len(band) % spectra.GROUP)) for band in np.split(weights, ends[1:-1])]
    return first, np.cumsum([0, *map(len, bands)]), np.concatenate(bands)
