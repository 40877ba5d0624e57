"""An input of the tests: the peak of each half of a clip, as a vector."""

from typing import Any

import numpy as np

FRAME_SERIES = frozenset[str]()


def shape(config: Any) -> tuple[int, ...]:
    return (2,)


def column_names() -> list[str]:
    return ["first_peak", "second_peak"]


def compute(a: Any, rows: dict[str, np.ndarray]) -> np.ndarray:
    return np.array([abs(half).max() for half in np.array_split(a.y, 2)], np.float32)


def summarise(values: np.ndarray) -> dict[str, float]:
    return dict(zip(column_names(), values.tolist(), strict=True))
