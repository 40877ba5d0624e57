"""What the benchmarks share: one core, alternate timing, a table of ratios.

Imported before anything that starts threads: how many is read from the environment once.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

# Run as `python benchmarks/X.py`, Python looks beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

#: What OpenMP, BLAS, oneDNN, numba and TensorFlow read at start.
_THREADS = ("OMP", "OPENBLAS", "MKL", "NUMBA", "TF_NUM_INTRAOP", "TF_NUM_INTEROP")


def one_core() -> None:
    """Keep this process to one core and one thread; without the system's means to pin, to one thread."""
    for name in _THREADS:
        os.environ[f"{name}_THREADS" if name.startswith("TF") else f"{name}_NUM_THREADS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def alternately(ways: Mapping[str, Callable[[], int]], repeats: int) -> pd.DataFrame:
    """CPU seconds an item of each way, every way once a round, so that a busy machine is busy for all.

    Parameters
    ----------
    ways : mapping of str to callable
        Each does some work and returns the number of items done.
    repeats : int
        Rounds, after one that is not counted: it compiles and fills caches.

    Returns
    -------
    pd.DataFrame [shape=(repeats, n_ways)]
        Seconds of CPU time, user and system, an item.
    """
    rounds = [{name: seconds_per_item(way) for name, way in ways.items()} for _ in range(repeats + 1)]
    return pd.DataFrame(rounds[1:])


def seconds_per_item(way: Callable[[], int]) -> float:
    """CPU seconds, user and system, of one call, divided by the number of items it says it did."""
    start = time.process_time()
    n = way()
    return (time.process_time() - start) / n


def compared(seconds: pd.DataFrame, reference: str, item: str) -> pd.DataFrame:
    """Table for the terminal: items a second, and how many times the reference, median and range over the rounds."""
    ratios = 1 / seconds.div(seconds[reference], axis=0)
    return pd.DataFrame(
        {
            f"{item}/s": (1 / seconds.median()).map("{:,.1f}".format),
            "times": ratios.median().map("{:.2f}".format),
            "lowest": ratios.min().map("{:.2f}".format),
            "highest": ratios.max().map("{:.2f}".format),
        }
    )


def cpu() -> str:
    """Name of the processor and which of the instructions for bfloat16 it has."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    found = [flag for flag in ("avx512_bf16", "amx_bf16") if any(flag in line.split() for line in lines)]
    return f"{name}, {' and '.join(found) or 'no instructions for bfloat16'}"


def noise(n: int, seed: int = 0) -> np.ndarray:
    """Stand-ins for stored spectrograms, uint8 (n, 96, 431): noise smoothed along time and frequency as music is."""
    from scipy.ndimage import gaussian_filter

    S = gaussian_filter(np.random.default_rng(seed).normal(size=(n, 96, 431)), (0, 1.0, 1.0))
    S -= np.linspace(0, 0.6, 96)[:, None]
    low, high = S.min(axis=(1, 2), keepdims=True), S.max(axis=(1, 2), keepdims=True)
    return np.rint((S - low) / (high - low) * 255).astype(np.uint8)
