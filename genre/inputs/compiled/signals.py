"""Compiled loops over samples, over the frames of a clip, and over series of numbers."""

import numpy as np

from genre.inputs.compiled.disk_cache import compile_loop


@compile_loop
def write_samples_by_hop(y: np.ndarray, n_before: int, samples: np.ndarray) -> None:
    """Write a signal after some zeros, the n-th sample of every hop to row n."""
    hop, n_hops = samples.shape
    samples[:] = 0
    for i in range(n_hops):
        start = i * hop - n_before
        part = y[max(0, start) : max(0, start + hop)]
        skipped = max(0, -start)
        for n in range(len(part)):
            samples[skipped + n, i] = part[n]


@compile_loop
def central_moments(x: np.ndarray) -> np.ndarray:
    """Compute the mean, and the second to fourth central moments, in double precision."""
    mean = 0.0
    for i in range(x.size):
        mean += x[i]
    mean /= x.size
    second = 0.0
    third = 0.0
    fourth = 0.0
    for i in range(x.size):
        deviation = x[i] - mean
        square = deviation * deviation
        second += square
        third += square * deviation
        fourth += square * square
    return np.array([mean, second / x.size, third / x.size, fourth / x.size])


@compile_loop
def count_sign_changes(y: np.ndarray, offset: np.float32, n_fft: int, hop: int, n_frames: int) -> np.ndarray:
    """Count the samples of each frame, but its first, that are on another side of -1e-10 than the one before."""
    is_change = np.zeros(len(y), np.uint8)
    for i in range(1, len(y)):
        is_change[i] = (y[i] + offset < -1e-10) != (y[i - 1] + offset < -1e-10)
    counts = np.empty(n_frames, np.int64)
    for t in range(n_frames):
        start = t * hop - n_fft // 2
        frame = is_change[max(0, start + 1) : start + n_fft]
        total = 0
        for i in range(len(frame)):
            total += frame[i]
        counts[t] = total
    return counts


@compile_loop
def mean_squares(y: np.ndarray, offset: np.float32, n_fft: int, hop: int, n_frames: int) -> np.ndarray:
    """Compute the mean square of each frame, with zeros beyond the ends of the signal."""
    squares = np.empty(n_frames)
    for t in range(n_frames):
        frame = y[max(0, t * hop - n_fft // 2) : t * hop - n_fft // 2 + n_fft]
        total = 0.0
        for i in range(len(frame)):
            level = np.float64(frame[i] + offset)
            total += level * level
        squares[t] = total / n_fft
    return squares


@compile_loop
def find_peaks(S: np.ndarray, least: np.ndarray, low: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the peaks of each frame, a column: place in bins, from that of the first row, and height, over `least`."""
    n_bins, n_frames = S.shape
    at = np.empty(S.size // 2 + n_frames)
    height = np.empty(len(at), np.float32)
    is_peak = np.empty(n_frames, np.bool_)
    n = 0
    for k in range(1, n_bins - 1):
        for t in range(n_frames):  # a separate loop, so that the compiler vectorises it
            is_peak[t] = (S[k, t] > least[t]) & (S[k, t] > S[k - 1, t]) & (S[k, t] >= S[k + 1, t])
        for t in range(n_frames):
            if is_peak[t]:
                slope = (S[k + 1, t] - S[k - 1, t]) / 2
                curvature = S[k - 1, t] + S[k + 1, t] - 2 * S[k, t]
                shift = -slope / curvature if abs(slope) < abs(curvature) else np.float32(0)
                at[n] = low + k + shift
                height[n] = S[k, t] + slope * shift / 2
                n += 1
    return at[:n], height[:n]


@compile_loop
def mean_and_std(columns: np.ndarray) -> np.ndarray:
    """Compute the means, then the standard deviations, of the rows of an array, in double precision."""
    n_rows, n = columns.shape
    values = np.empty(2 * n_rows)
    for j in range(n_rows):
        total = 0.0
        for i in range(n):
            total += columns[j, i]
        mean = total / n
        squares = 0.0
        for i in range(n):
            squares += (columns[j, i] - mean) * (columns[j, i] - mean)
        values[j] = mean
        values[n_rows + j] = np.sqrt(squares / n)
    return values
