"""Computing the parts of a store from audio."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.errors import AudioError
from genre.inputs import features
from genre.store import parts


def read_clip(clip: Any, config: AudioConfig) -> np.ndarray:
    """Audio of one row of the clips table, mono float32 at ``config.sr``, as features and spectrogram take it.

    Raises
    ------
    AudioError
        If it cannot be decoded, or is too short, not finite or silent.
    """
    y = decoding.decode_audio(
        str(clip.path),
        sr=config.sr,
        start_s=clip.start_s,
        duration_s=clip.end_s - clip.start_s,
        resampler=config.resampler,
    )
    return prepare_clip(y, config)


def compute_part(
    batch: pd.DataFrame, config: AudioConfig, directory: Path, on_clip: Callable[[int], object] = lambda position: None
) -> int:
    """Compute the clips of one batch and write them as one part.

    Parameters
    ----------
    batch : pd.DataFrame
        Rows of the clips table.
    config : AudioConfig
        How to compute.
    directory : Path
        The store of that configuration.
    on_clip : callable, optional
        Told the position of each clip before it is begun.

    Returns
    -------
    int
        Number of clips.
    """
    rows, images = [], list[np.ndarray]()
    for position, clip in enumerate(batch.itertuples()):
        on_clip(position)
        row = {"clip_id": clip.clip_id, "stamp": clip.stamp, "status": "ok", "reason": "", "row": -1}
        try:
            values, image = features.extract_with_log_mel(read_clip(clip, config), config)
            row |= dict(zip(features.FEATURE_NAMES, values, strict=True)) | {"row": len(images)}
            images.append(image)
        except AudioError as error:
            row |= {"status": error.status, "reason": error.reason}
        except Exception as error:  # one file must not stop the other million
            row |= {"status": "undecodable", "reason": f"{clip.path}: {type(error).__name__}: {error}"}
        rows.append(row)
    stacked = np.stack(images) if images else np.empty((0, config.n_mels, config.n_frames), np.uint8)
    parts.save_part(pd.DataFrame(rows), stacked, directory)
    return len(batch)


def write_crashed_part(clip: pd.DataFrame, config: AudioConfig, directory: Path, reason: str) -> None:
    """Write the part of a clip, a table of one row, that no process has survived."""
    row = clip[["clip_id", "stamp"]].assign(status="crashed", reason=f"{clip['path'].iloc[0]}: {reason}", row=-1)
    parts.save_part(row, np.empty((0, config.n_mels, config.n_frames), np.uint8), directory)
