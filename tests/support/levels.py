"""An input of the tests: mean level of four groups of mel bands, derived from the stored spectrogram."""

from typing import Any

import numpy as np


def shape(config: Any) -> tuple[int, ...]:
    return (4,)


def column_names() -> list[str]:
    return [f"level_{n}" for n in range(4)]


def derive(S_u8: np.ndarray, config: Any) -> np.ndarray:
    return np.array([bands.mean() for bands in np.array_split(S_u8, 4)], np.float32)


def summarise(values: np.ndarray) -> dict[str, float]:
    return dict(zip(column_names(), values.tolist(), strict=True))
