"""A person's own music: one sub-folder per genre, or a CSV that lists the files."""

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from genre import audio
from genre.config import AudioConfig
from genre.errors import AudioError, DataError

#: What libsndfile or PyAV's FFmpeg decodes.
SUFFIXES = {
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".oga",
    ".opus",
    ".m4a",
    ".aac",
    ".mp4",
    ".au",
    ".aif",
    ".aiff",
    ".wma",
    ".webm",
}


def clips(source: Path, directory: Path, *, max_clips_per_track: int = 6) -> pd.DataFrame:
    """Cut every track into ten-second clips.

    Parameters
    ----------
    source : Path
        Folder with one sub-folder per genre, searched to any depth; or a CSV with the columns ``path`` (absolute, or
        relative to the CSV) and ``genre``, and optionally ``recording``, ``split``, ``start_s`` and ``end_s``.
    directory : Path
        Not used: the files stay where they are.
    max_clips_per_track : int
        At most so many clips of one track, spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table; genres in alphabetical order. The track is the recording, unless the CSV says otherwise.

    Raises
    ------
    DataError
        If there is no audio, a file named in the CSV has no genre, or the CSV lacks a column.
    """
    if max_clips_per_track < 1:
        raise DataError(f"max_clips_per_track must be at least 1, got {max_clips_per_track}")
    tracks = _from_folder(source) if source.is_dir() else _from_csv(source)
    found = Parallel(n_jobs=4, prefer="threads")(delayed(_cut)(track, max_clips_per_track) for track in tracks)
    table = pd.DataFrame([row for rows in found for row in rows])
    table["genre"] = pd.Categorical(table["genre"], categories=sorted(table["genre"].unique()))
    return table


def _from_folder(source: Path) -> list[dict[str, Any]]:
    """One record per track: path, genre, recording."""
    genres = [d for d in sorted(source.iterdir()) if d.is_dir() and not d.name.startswith(".")]
    tracks = [
        {"path": path, "genre": genre.name, "recording": path.relative_to(source).as_posix()}
        for genre in genres
        for path in _audio_files(genre)
    ]
    if not tracks:
        raise DataError(
            f"no audio in the sub-folders of {source}; it must hold one sub-folder per genre with files of "
            f"{', '.join(sorted(s[1:] for s in SUFFIXES))}"
        )
    return tracks


def _audio_files(folder: Path) -> Iterable[Path]:
    return sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


def _from_csv(source: Path) -> list[dict[str, Any]]:
    """One record per row: path, genre, recording, and the optional columns where given."""
    try:
        table = pd.read_csv(source, dtype={"path": str, "genre": str, "recording": str, "split": str})
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as CSV: {error}") from None
    missing = {"path", "genre"} - set(table.columns)
    if missing:
        raise DataError(f"{source} lacks the column {' and '.join(sorted(missing))}; it has {', '.join(table.columns)}")
    empty = table.index[table["path"].isna() | table["genre"].isna()]
    if len(empty):
        raise DataError(f"{source}, line {empty[0] + 2}: path or genre is empty ({len(empty)} such lines)")
    if table.empty:
        raise DataError(f"{source} lists no file")
    known = [c for c in ("path", "genre", "recording", "split", "start_s", "end_s") if c in table]
    return [_record(record, source.parent) for record in table[known].to_dict("records")]


def _record(record: Mapping[Hashable, Any], base: Path) -> dict[str, Any]:
    """One line of the CSV without its empty fields."""
    given = {str(k): v for k, v in record.items() if not pd.isna(v)}
    return {"recording": given["path"], **given, "path": (base / given["path"]).resolve()}


def _cut(track: dict[str, Any], max_clips: int) -> list[dict[str, Any]]:
    """Rows of the clips table for one track, or for one listed stretch of it."""
    path = track["path"]
    row = {
        "split": None,
        **track,
        "path": str(path),
        "dataset": "folder",
        "status": "pending",
        "reason": "",
        "stamp": "",
    }
    config, offset_s, starts = AudioConfig(), track.get("start_s", 0.0), [0.0]
    try:
        stat = path.stat()
        end_s = track.get("end_s") or audio.duration_s(path)
        row["stamp"] = f"{stat.st_size}-{stat.st_mtime_ns}"
        starts = audio.window_starts(end_s - offset_s, config, max_windows=max_clips)
    except AudioError as error:
        end_s, row = offset_s, row | {"status": error.status, "reason": error.reason}
    except OSError as error:
        end_s, row = offset_s, row | {"status": "undecodable", "reason": f"{path}: {error.strerror}"}
    spans = [(offset_s + start, min(end_s, offset_s + start + config.clip_s)) for start in starts]
    return [row | {"clip_id": f"{row['recording']}@{a:g}", "start_s": a, "end_s": b} for a, b in spans]
