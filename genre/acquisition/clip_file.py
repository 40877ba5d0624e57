"""Files of clips: their paths, and the cutting, checking and safe writing of one."""

import hashlib
import io
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from genre.acquisition.faults import DownloadError
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.errors import AudioError

#: A clip may be this many seconds shorter than its segment without counting as short.
TOLERANCE_S = 0.1


def clip_path(folder: Path, segment: Mapping[str, Any], extension: str) -> Path:
    """Return the path of a segment's clip: ``<case>/YTID_START.<extension>``.

    Ids that differ only by case would be one file on a disk that ignores case. The folder ``<case>`` therefore encodes
    which letters are upper case.
    """
    bits = "".join("1" if letter.isupper() else "0" for letter in segment["ytid"])
    return folder / f"{int(bits, 2):03x}" / f"{segment['clip_id']}.{extension}"


def save_clip(
    source: decoding.AudioSource,
    segment: Mapping[str, Any],
    target: Path,
    *,
    sr: int,
    may_be_short: bool = False,
    offset_s: float | None = None,
) -> dict[str, Any]:
    """Cut a segment out of audio, check it, and write it: mono, of exact length, whole or not at all.

    Parameters
    ----------
    source : str, Path, bytes or file
        Audio of the video.
    segment : mapping
        A row of the ledger. Its ``start_s`` and ``end_s`` are used; at most ten seconds are kept.
    target : Path
        ``.flac`` or ``.wav``.
    sr : int
        Sampling rate of the file, Hz.
    may_be_short : bool, default False
        Whether audio that ends more than 0.1 s early is padded with silence, and marked as padded, instead of refused.
    offset_s : float, optional
        Start of the segment within `source`, seconds; by default its ``start_s``.

    Returns
    -------
    dict
        ``duration_s`` of the file, ``padded_s`` (how much of that is padding), ``peak``, ``rms``, and ``sha256`` of the
        file.

    Raises
    ------
    DownloadError
        Of the class ``short``, ``silent``, ``undecodable`` or ``disk``.
    """
    clip_s = min(segment["end_s"] - segment["start_s"], AudioConfig().clip_s)
    start_s = segment["start_s"] if offset_s is None else offset_s
    try:
        y = decoding.decode_audio(source, sr=sr, start_s=start_s, duration_s=clip_s)
        y = prepare_clip(y, replace(AudioConfig(), sr=sr, clip_s=clip_s))
    except AudioError as error:
        fault = {"too_short": "short", "silent": "silent"}.get(error.status, "undecodable")
        raise DownloadError(fault, error.reason) from None
    n = round(clip_s * sr)
    padded_s = (n - y.size) / sr
    if padded_s > TOLERANCE_S and not may_be_short:
        raise DownloadError("short", f"{y.size / sr:.2f} s of audio where the segment has {clip_s:g} s")
    return {
        "duration_s": n / sr,
        "sha256": _write_verified(target, np.pad(y, (0, n - y.size)), sr),
        "padded_s": padded_s if padded_s > TOLERANCE_S else 0.0,
        "peak": float(np.abs(y).max()),
        "rms": float(np.sqrt(np.mean(np.square(y, dtype=np.float64)))),
    }


def _write_verified(target: Path, y: np.ndarray, sr: int) -> str:
    """Write a file under a temporary name, read it back, then rename it; return its SHA-256."""
    encoded = io.BytesIO()  # encoded in memory first, because soundfile does not report a full disk
    soundfile.write(encoded, y, sr, subtype="PCM_16", format=target.suffix[1:].upper())
    temporary = target.with_name(f"{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(encoded.getvalue())
            file.flush()
            os.fsync(file.fileno())
        if soundfile.read(temporary)[0].shape != y.shape:
            raise DownloadError("disk", f"{target.name} has another length when read back than when it was written")
        temporary.replace(target)
    except (OSError, soundfile.SoundFileError) as error:
        raise DownloadError("disk", f"cannot write {target.name}: {error}") from None
    finally:
        with suppress(OSError):
            temporary.unlink()
    return hashlib.sha256(encoded.getvalue()).hexdigest()
