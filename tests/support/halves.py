"""An input of the tests: mean mel powers of the halves of a clip, as an array."""

from typing import Any

import numpy as np

FRAME_SERIES = frozenset({"emphasised_mel"})


def shape(config: Any) -> tuple[int, ...]:
    return 2, config.n_mels


def compute(a: Any, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Mean mel powers of the first and of the second half."""
    halves = np.array_split(rows["emphasised_mel"], 2)
    return np.stack([half.mean(axis=0) for half in halves]).astype(np.float32)


def summarise(values: np.ndarray) -> dict[str, float]:
    return {f"half_{n}": float(row.mean()) for n, row in enumerate(values)}
