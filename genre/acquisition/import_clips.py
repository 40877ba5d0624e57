"""Clips that are there already: in the workspace after a kill, or in a folder that other tools filled."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from genre.acquisition.clip_file import TOLERANCE_S, clip_path, save_clip
from genre.acquisition.faults import DownloadError
from genre.acquisition.ledger import Ledger
from genre.audio import decoding
from genre.audio.listing import AUDIO_SUFFIXES
from genre.errors import AudioError, DataError

#: ``YTID``, ``YTID_START`` or ``YTID_START_END``, in seconds or milliseconds; some tools put a Y before the id.
_VIDEO_NAME = re.compile(r"Y?([\w-]{11})(?:_(\d+(?:\.\d+)?))?(?:_\d+(?:\.\d+)?)?")

#: ``NUMBER_Genre``, as the paper's files are named.
_NUMBERED_NAME = re.compile(r"(\d+)_[A-Za-z].*")

#: Columns of a mirror in Parquet, by the names that such data sets use.
_ID_COLUMNS = ("video_id", "ytid", "youtube_id", "id")
_START_COLUMNS = ("start_s", "start_seconds", "start_time_seconds", "start_time")

#: A file longer than its segment by more than this is taken for the whole video, seconds.
_CUT_TOLERANCE_S = 0.5

Item = tuple[str, list[dict[str, Any]], decoding.AudioSource]


def reconcile_ledger(ledger: Ledger, folder: Path) -> tuple[int, int]:
    """Hold the ledger against the folder of the clips: a kill may fall between the two, a user may delete files.

    Parameters
    ----------
    ledger : Ledger
        Segments wanted.
    folder : Path
        Of the clips.

    Returns
    -------
    n_adopted, n_missing : int
        Clips found that the ledger did not know, and clips that it knew and that are gone: those wait again.
    """
    there = {f"{p.parent.name}/{p.name}": p for p in folder.glob("*/*") if p.suffix in (".flac", ".wav")}
    known = ledger.read_segments().set_index("clip_id")
    done = known[known["status"] == "done"]
    missing = done.index[~done["path"].isin(there.keys())]
    for clip_id in missing:
        ledger.update_segment(clip_id, status="waiting", path="", next_try=0, attempts=0)
    n_adopted = 0
    for name in sorted(there.keys() - set(done["path"])):
        path = there[name]
        if path.stem in known.index:
            segment = {"clip_id": path.stem, **known.loc[path.stem, ["start_s", "end_s"]]}
            if _import_clip(ledger, segment, path, path) == "adopted":
                ledger.update_segment(path.stem, padded_s=_padding_s(path))
                n_adopted += 1
    return n_adopted, len(missing)


def import_files(
    ledger: Ledger, source: Path, folder: Path, sr: int, extension: str, on_progress: Callable[[], object]
) -> Counter[str]:
    """Keep the clips of a folder of files, or of a mirror in Parquet, that other tools downloaded.

    Files are named ``YTID.ext``, ``YTID_START.ext`` or, where AudioSet's unbalanced list is among the lists, as the
    paper's are, ``NUMBER_Genre.wav``; a file longer than its segment is the whole video, and cut. A Parquet file has a
    column of ids and one called ``audio``: bytes, or a structure with ``bytes``. Nothing of the source is changed.

    Parameters
    ----------
    ledger : Ledger
        Segments wanted; those that are done are left alone.
    source : Path
        The folder, searched to any depth, or one Parquet file.
    folder : Path
        Of the clips.
    sr : int
        Sampling rate of the clips, Hz.
    extension : {"flac", "wav"}
        Their format.
    on_progress : callable
        Called after each file.

    Returns
    -------
    Counter
        How many were ``adopted``, ``known`` already, ``not wanted``, or refused, by class of error.

    Raises
    ------
    DataError
        If there is no such folder, or nothing in it that could be clips.
    """
    if not source.exists():
        raise DataError(
            f"there is no {source}; -P files= takes a folder of audio, or of Parquet files, or one of those"
        )
    found: Counter[str] = Counter()
    for _, segments, content in _iter_items(ledger, source):
        for segment in segments:
            outcome = "known"
            if segment["status"] != "done":
                outcome = _import_clip(ledger, segment, content, clip_path(folder, segment, extension), sr)
            found[outcome] += 1
        found["not wanted"] += not segments
        on_progress()
    if not found:
        raise DataError(f"no audio and no Parquet file in {source}; audio ends in {', '.join(sorted(AUDIO_SUFFIXES))}")
    return +found


def _padding_s(path: Path) -> float:
    """Seconds of digital silence at the end of a clip, which is what it was padded with."""
    y, sr = soundfile.read(path, dtype="int16")
    silent_s = (y.size - 1 - np.flatnonzero(y)[-1]) / sr
    return silent_s if silent_s > TOLERANCE_S else 0.0


def _iter_items(ledger: Ledger, source: Path) -> Iterator[Item]:
    """Name, segments and audio of everything below a folder."""
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for path in paths:
        if path.suffix == ".parquet":
            yield from _iter_parquet_items(ledger, path)
        elif path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            yield path.name, _match_segments(ledger, path.stem), path


def _iter_parquet_items(ledger: Ledger, path: Path) -> Iterator[Item]:
    """The same of every row of a Parquet file."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    ids = next((c for c in _ID_COLUMNS if c in names), "")
    start = next((c for c in _START_COLUMNS if c in names), "")
    if not ids or "audio" not in names:
        raise DataError(
            f"{path} has the columns {', '.join(names)}; a mirror needs audio, and one of {', '.join(_ID_COLUMNS)}"
        )
    for batch in file.iter_batches(batch_size=32, columns=[c for c in (ids, start, "audio") if c]):
        for row in batch.to_pylist():
            stem = f"{row[ids]}_{row[start]:g}" if start and row[start] is not None else str(row[ids])
            content = row["audio"]["bytes"] if isinstance(row["audio"], Mapping) else row["audio"]
            yield stem, _match_segments(ledger, stem), content or b""


def _match_segments(ledger: Ledger, stem: str) -> list[dict[str, Any]]:
    """Wanted segments that a name stands for."""
    columns = ("clip_id", "ytid", "start_s", "end_s", "status", "first_try")
    if by_video := _VIDEO_NAME.fullmatch(stem):
        found = ledger.find(columns, ytid=by_video[1])
        starts = (float(by_video[2] or 0), float(by_video[2] or 0) / 1000)
        found = found if by_video[2] is None else [s for s in found if s["start_s"] in starts]
        if found:
            return found
    by_number = _NUMBERED_NAME.fullmatch(stem)
    return ledger.find(columns, number=int(by_number[1])) if by_number else []


def _import_clip(
    ledger: Ledger,
    segment: Mapping[str, Any],
    content: decoding.AudioSource,
    target: Path,
    sr: int | None = None,
) -> str:
    """Keep one clip and write it down, at its own rate if none is asked for; returns what became of it."""
    try:
        whole_s = decoding.read_duration_s(content)
        is_cut = whole_s <= segment["end_s"] - segment["start_s"] + _CUT_TOLERANCE_S
        offset_s = 0.0 if is_cut else segment["start_s"]
        sr = sr or soundfile.info(str(content)).samplerate
        values = save_clip(content, segment, target, sr=sr, may_be_short=True, offset_s=offset_s)
    except (AudioError, DownloadError, soundfile.SoundFileError) as error:
        if isinstance(error, DownloadError) and error.fault.kind == "machine":
            raise
        return error.fault.name if isinstance(error, DownloadError) else "undecodable"
    path = f"{target.parent.name}/{target.name}"
    told = {"path": path, "format": "adopted", "bytes": target.stat().st_size, "error": "", "message": ""}
    ledger.update_segment(segment["clip_id"], status="done", **values, **told)
    return "adopted"
