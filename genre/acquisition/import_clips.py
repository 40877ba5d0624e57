"""Import of existing clips: from the workspace after a kill, or from files that other tools downloaded."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from genre.acquisition.clip_file import TOLERANCE_S, clip_path, save_clip
from genre.acquisition.faults import DownloadError
from genre.acquisition.ledger import Ledger
from genre.audio import decoding
from genre.audio.suffixes import audio_suffixes, list_accepted
from genre.errors import UNREAD, AudioError, DataError, is_system_error

#: ``YTID``, ``YTID_START`` or ``YTID_START_END``, times in seconds or milliseconds. Some tools put a Y before the id.
_VIDEO_NAME = re.compile(r"Y?([\w-]{11})(?:_(\d+(?:\.\d+)?))?(?:_\d+(?:\.\d+)?)?")

#: ``NUMBER_Genre``, the names of the paper's files.
_NUMBERED_NAME = re.compile(r"(\d+)_[A-Za-z].*")

#: Names that published Parquet copies of AudioSet give to the columns of ids and of start times.
_ID_COLUMNS = ("video_id", "ytid", "youtube_id", "id")
_START_COLUMNS = ("start_s", "start_seconds", "start_time_seconds", "start_time")

#: A file that is longer than its segment by more than this counts as the whole video, seconds.
_CUT_TOLERANCE_S = 0.5

#: Name, matching segments and audio of one file or Parquet row.
Item = tuple[str, list[dict[str, Any]], decoding.AudioSource]


def reconcile_ledger(ledger: Ledger, folder: Path) -> tuple[int, int]:
    """Update the ledger to the clips that exist, as after a kill between two writes or when files were deleted.

    Parameters
    ----------
    ledger : Ledger
        Wanted segments.
    folder : Path
        Folder of the clips.

    Returns
    -------
    n_adopted, n_missing : int
        Number of clips that were not in the ledger and now are, and number of those in the ledger whose file is
        missing. The latter are set to be downloaded again.
    """
    files = {f"{p.parent.name}/{p.name}": p for p in folder.glob("*/*") if p.suffix in (".flac", ".wav")}
    segments = ledger.read_segments().set_index("clip_id")
    done = segments[segments["status"] == "done"]
    missing = done.index[~done["path"].isin(files.keys())]
    for clip_id in missing:
        ledger.update_segment(clip_id, status="waiting", path="", next_try=0, attempts=0)
    n_adopted = 0
    for name in sorted(files.keys() - set(done["path"])):
        path = files[name]
        if path.stem in segments.index:
            segment = {"clip_id": path.stem, **segments.loc[path.stem, ["start_s", "end_s"]]}
            if _import_clip(ledger, segment, path, path) == "adopted":
                ledger.update_segment(path.stem, padded_s=_padding_s(path))
                n_adopted += 1
    return n_adopted, len(missing)


def check_files(source: Path) -> None:
    """Check that there is a file or folder to import clips from.

    Raises
    ------
    DataError
        If there is not.
    """
    if not source.exists():
        raise DataError(
            f"there is no {source}; -P files= takes a folder of audio files or Parquet files, or one such file"
        )


def import_files(
    ledger: Ledger, source: Path, folder: Path, sr: int, extension: str, on_progress: Callable[[], object]
) -> Counter[str]:
    """Import clips that other tools downloaded, as files or in Parquet.

    Files are named ``YTID.ext``, ``YTID_START.ext`` or, if AudioSet's unbalanced list is among the lists, as the
    paper's are, ``NUMBER_Genre.wav``. A file longer than its segment counts as the whole video, out of which the
    segment is cut. A Parquet file has a column of ids and a column ``audio`` that holds bytes or a structure with
    ``bytes``. The source itself is not changed.

    Parameters
    ----------
    ledger : Ledger
        Wanted segments; clips of those already done are not replaced.
    source : Path
        Folder, searched to any depth, or one file.
    folder : Path
        Folder of the clips.
    sr : int
        Sampling rate of the clips, Hz.
    extension : {"flac", "wav"}
        Format of the clips.
    on_progress : callable
        Called after each file.

    Returns
    -------
    Counter
        Number of files that were ``adopted``, ``known`` already or ``not wanted``, or were refused, by class of fault.

    Raises
    ------
    DataError
        If the source does not exist, holds no audio and no Parquet, or a Parquet file lacks the columns.
    """
    check_files(source)
    outcomes: Counter[str] = Counter()
    for _, segments, content in _iter_items(ledger, source):
        for segment in segments:
            outcome = "known"
            if segment["status"] != "done":
                outcome = _import_clip(ledger, segment, content, clip_path(folder, segment, extension), sr)
            outcomes[outcome] += 1
        outcomes["not wanted"] += not segments
        on_progress()
    if not outcomes:
        raise DataError(f"no audio and no Parquet file in {source}; audio files end in {list_accepted()}")
    return +outcomes  # without the outcomes that did not occur


def _padding_s(path: Path) -> float:
    """Return the seconds of digital silence at the end of a clip, which is what clips are padded with."""
    y, sr = soundfile.read(path, dtype="int16")
    silent_s = (y.size - 1 - np.flatnonzero(y)[-1]) / sr
    return silent_s if silent_s > TOLERANCE_S else 0.0


def _iter_items(ledger: Ledger, source: Path) -> Iterator[Item]:
    """Yield name, segments and audio of every file, or Parquet row, of the source."""
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    for path in paths:
        if path.suffix == ".parquet":
            yield from _iter_parquet_items(ledger, path)
        elif path.suffix.lower() in audio_suffixes() and not path.name.startswith("."):
            yield path.name, _match_segments(ledger, path.stem), path


def _iter_parquet_items(ledger: Ledger, path: Path) -> Iterator[Item]:
    """Yield name, segments and audio of every row of a Parquet file."""
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    id_column = _first_present(_ID_COLUMNS, names)
    start_column = _first_present(_START_COLUMNS, names)
    if not id_column or "audio" not in names:
        raise DataError(
            f"{path} has the columns {', '.join(names)}; "
            f"it needs a column audio, and one of {', '.join(_ID_COLUMNS)} for the ids"
        )
    columns = [column for column in (id_column, start_column, "audio") if column]
    for batch in file.iter_batches(batch_size=32, columns=columns):
        for row in batch.to_pylist():
            stem = _row_stem(row[id_column], row.get(start_column))
            yield stem, _match_segments(ledger, stem), _audio_bytes(row["audio"])


def _first_present(candidates: Sequence[str], names: Sequence[str]) -> str:
    """Return the first candidate among the names, or empty text."""
    return next((candidate for candidate in candidates if candidate in names), "")


def _row_stem(video_id: object, start_s: float | None) -> str:
    """Return the file name, without suffix, that a Parquet row would have as a file."""
    return str(video_id) if start_s is None else f"{video_id}_{start_s:g}"


def _audio_bytes(audio: Mapping[str, bytes | None] | bytes | None) -> bytes:
    """Return the bytes of a Parquet cell, which may be a structure with ``bytes``; no bytes if it is null."""
    content = audio["bytes"] if isinstance(audio, Mapping) else audio
    return content or b""


def _match_segments(ledger: Ledger, stem: str) -> list[dict[str, Any]]:
    """Find the wanted segments that a file name, without suffix, stands for."""
    columns = ("clip_id", "ytid", "start_s", "end_s", "status", "first_try")
    if video_name := _VIDEO_NAME.fullmatch(stem):
        segments = ledger.find(columns, ytid=video_name[1])
        if video_name[2] is not None:
            start = float(video_name[2])
            segments = [s for s in segments if s["start_s"] in (start, start / 1000)]  # seconds or milliseconds
        if segments:
            return segments
    # a name such as 1000_Reggae has eleven letters, as a video's id, so numbers are tried after ids
    numbered_name = _NUMBERED_NAME.fullmatch(stem)
    return ledger.find(columns, number=int(numbered_name[1])) if numbered_name else []


def _import_clip(
    ledger: Ledger,
    segment: Mapping[str, Any],
    content: decoding.AudioSource,
    target: Path,
    sr: int | None = None,
) -> str:
    """Write one clip and its row of the ledger, at the file's own rate if `sr` is None.

    Returns
    -------
    str
        "adopted", "unread" where the system does not let the file be read, or the class of the fault.
    """
    try:
        duration_s = decoding.read_duration_s(content)
        is_cut = duration_s <= segment["end_s"] - segment["start_s"] + _CUT_TOLERANCE_S
        offset_s = 0.0 if is_cut else segment["start_s"]
        sr = sr or soundfile.info(str(content)).samplerate
        values = save_clip(content, segment, target, sr=sr, may_be_short=True, offset_s=offset_s)
    except (OSError, MemoryError) as error:
        if is_system_error(error):
            return UNREAD
        raise
    except (AudioError, DownloadError, soundfile.SoundFileError) as error:
        if isinstance(error, DownloadError) and error.fault.kind == "machine":
            raise
        return error.fault.name if isinstance(error, DownloadError) else "undecodable"
    path = f"{target.parent.name}/{target.name}"
    values |= {"path": path, "format": "adopted", "bytes": target.stat().st_size, "error": "", "message": ""}
    ledger.update_segment(segment["clip_id"], status="done", **values)
    return "adopted"
