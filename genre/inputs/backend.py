"""Choice between the compiled and the plain analysis."""

from __future__ import annotations

import os
import warnings
from functools import cache

import numpy as np

from genre.config import AudioConfig
from genre.inputs.stft import Analysis


def analyse_clip(y: np.ndarray, config: AudioConfig) -> Analysis:
    """Analyse a clip: compiled, or plainly where numba is missing, cannot write its cache, or is not wanted.

    ``GENRE_KERNELS=plain`` in the environment asks for the plain one.

    Parameters
    ----------
    y, config
        As for `Analysis`.

    Returns
    -------
    Analysis
        Both kinds give the same to about 1e-6.
    """
    kind = _backend_class()
    return kind(y, config) if kind.supports(config) else Analysis(y, config)


def backend_name() -> str:
    """Return the kind of analysis that `analyse_clip` makes here: ``compiled`` or ``plain``."""
    return "plain" if _backend_class() is Analysis else "compiled"


def _backend_class() -> type[Analysis]:
    return _load_backend(os.environ.get("GENRE_KERNELS", "compiled"))


@cache
def _load_backend(name: str) -> type[Analysis]:
    """Return the class that `analyse_clip` makes; the compiled one is compiled here, or loaded from numba's cache."""
    if name == "plain":
        return Analysis
    try:
        from genre.inputs.compiled import CompiledAnalysis, load_loops

        load_loops()
    except Exception as error:  # numba fails in many ways: no compiler for the machine, no place for its cache
        warnings.warn(f"features take twice as long, for numba does not work here: {error}", stacklevel=3)
        return Analysis
    return CompiledAnalysis
