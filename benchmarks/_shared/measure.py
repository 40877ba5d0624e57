"""One core, alternating timing and tables of ratios."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import typer

#: Environment for one thread, as OpenMP, BLAS, oneDNN, numba and TensorFlow read it when they are loaded.
ONE_THREAD_ENV = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}


def run_on_one_core(main: Callable[..., None], environment: Mapping[str, str] | None = None) -> None:
    """Run a command line with one core and one thread, in this process and in those that it starts.

    The number of threads is read once, when a library is loaded, and the script has loaded its libraries by now. So
    this process starts itself again with the environment for one thread. Where the system cannot pin a process to a
    core, it keeps to one thread.

    Parameters
    ----------
    main : callable
        Function whose arguments are the options of the command line.
    environment : mapping of str to str, optional
        Further variables for the process.
    """
    settings = ONE_THREAD_ENV | dict(environment or {})
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if not settings.items() <= os.environ.items():
        quiet = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | quiet | settings)
    typer.run(main)


def time_alternately(workloads: Mapping[str, Callable[[], int]], repeats: int) -> pd.DataFrame:
    """Measure the CPU seconds per item of each workload, in turn, so that a busy machine slows down all of them.

    Parameters
    ----------
    workloads : mapping of str to callable
        Each does some work and returns the number of items done.
    repeats : int
        Rounds, after a warm-up round that compiles, fills caches and is not counted.

    Returns
    -------
    pd.DataFrame [shape=(repeats, n_workloads)]
        Seconds of CPU time, user and system, per item.
    """
    rounds = [
        {name: cpu_seconds_per_item(workload) for name, workload in workloads.items()} for _ in range(repeats + 1)
    ]
    return pd.DataFrame(rounds[1:])


def cpu_seconds_per_item(workload: Callable[[], int]) -> float:
    """Return the CPU seconds, user and system, of one call, divided by the number of items it returns."""
    start = time.process_time()
    n_items = workload()
    return (time.process_time() - start) / n_items


def tabulate_rates(seconds: pd.DataFrame, reference: str, item: str) -> pd.DataFrame:
    """Return a table for the terminal: items per second, and their ratio to a reference.

    Parameters
    ----------
    seconds : pd.DataFrame
        As `time_alternately` returns them.
    reference : str
        Column of the reference.
    item : str
        Plural noun for the heading.

    Returns
    -------
    pd.DataFrame
        A row per workload; of the ratio, median and range over the rounds.
    """
    ratios = 1 / seconds.div(seconds[reference], axis=0)
    return pd.DataFrame(
        {
            f"{item}/s": (1 / seconds.median()).map("{:,.1f}".format),
            "times": ratios.median().map("{:.2f}".format),
            "lowest": ratios.min().map("{:.2f}".format),
            "highest": ratios.max().map("{:.2f}".format),
        }
    )


def describe_cpu() -> str:
    """Return the name of the processor and which of the instructions for bfloat16 it has."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    flags = [flag for flag in ("avx512_bf16", "amx_bf16") if any(flag in line.split() for line in lines)]
    return f"{name}, {' and '.join(flags) or 'no instructions for bfloat16'}"


def synthesize_spectrograms(n: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return stand-ins for stored spectrograms, uint8 (n, 96, 431): noise as smooth in time and frequency as music."""
    from scipy.ndimage import gaussian_filter

    S = gaussian_filter(np.random.default_rng(seed).normal(size=(n, 96, 431)), (0, 1.0, 1.0))
    S -= np.linspace(0, 0.6, 96)[:, None]
    low = S.min(axis=(1, 2), keepdims=True)
    high = S.max(axis=(1, 2), keepdims=True)
    return np.rint((S - low) / (high - low) * 255).astype(np.uint8)
