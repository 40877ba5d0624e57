"""A person's own music: one sub-folder per genre, or a CSV that lists the files."""

import os
from collections.abc import Hashable, Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from genre.audio import decoding
from genre.audio.clips import window_starts
from genre.audio.listing import AUDIO_SUFFIXES, find_audio_files
from genre.config import AudioConfig
from genre.errors import AudioError, DataError

#: Rows put into a table at a time: as records they take several times the memory.
ROWS_PER_TABLE = 4096


def load_clips(source: Path, directory: Path, *, max_clips_per_track: int = 6) -> pd.DataFrame:
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
    return cut_tracks(find_tracks(source) if source.is_dir() else _read_csv(source), "folder", max_clips_per_track)


def cut_tracks(tracks: Iterable[Mapping[str, Any]], dataset: str, max_clips_per_track: int) -> pd.DataFrame:
    """Cut tracks into ten-second clips, several at a time.

    Parameters
    ----------
    tracks : iterable of mapping
        Each with ``path`` (Path), ``listed`` (what its clips are called after), ``recording``, ``genre``, and
        optionally ``split``, ``start_s`` and ``end_s``.
    dataset : str
        Name of the data set.
    max_clips_per_track : int
        At most so many of one track, spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table; genres in alphabetical order.
    """
    # Threads, since a far disk answers several at once, and the frames of MP3s are counted on every core.
    several = Parallel(n_jobs=4, prefer="threads", batch_size=16, return_as="generator")
    rows = chain.from_iterable(several(delayed(_cut_track)(dict(track), max_clips_per_track) for track in tracks))
    tables = [pd.DataFrame(some) for some in iter(lambda: list(islice(rows, ROWS_PER_TABLE)), [])]
    table = pd.concat(tables, ignore_index=True).assign(dataset=dataset)
    table["genre"] = pd.Categorical(table["genre"], categories=sorted(table["genre"].unique()))
    return table


def find_tracks(source: Path) -> list[dict[str, Any]]:
    """Tracks of a folder with one sub-folder per genre, searched to any depth.

    Returns
    -------
    list of dict
        As `cut_tracks` takes them: ``path``, ``listed``, ``recording`` (both the path within the folder), ``genre``.

    Raises
    ------
    DataError
        If there is no audio.
    """
    genres = [d for d in sorted(source.iterdir()) if d.is_dir() and not d.name.startswith(".")]
    tracks = [_make_track(path, genre.name, source) for genre in genres for path in find_audio_files(genre)]
    if not tracks:
        raise DataError(
            f"no audio in the sub-folders of {source}; it must hold one sub-folder per genre with files of "
            f"{', '.join(sorted(s[1:] for s in AUDIO_SUFFIXES))}"
        )
    return tracks


def _make_track(path: Path, genre: str, source: Path) -> dict[str, Any]:
    """Record of one file; a name that is not UTF-8, which no table can hold, is spelt out and the file left out."""
    name = os.fsencode(path.relative_to(source)).decode(errors="backslashreplace")
    return {"path": path, "listed": name, "recording": name, "genre": genre}


def _read_csv(source: Path) -> list[dict[str, Any]]:
    """One record per row: path, genre, recording, and the optional columns where given."""
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as CSV: {error}") from None
    missing = {"path", "genre"} - set(table.columns)
    if missing:
        raise DataError(f"{source} lacks the column {' and '.join(sorted(missing))}; it has {', '.join(table.columns)}")
    if table.empty:
        raise DataError(f"{source} lists no file")
    _refuse_lines(source, table["path"].isna() | table["genre"].isna(), "path or genre is empty")
    spans = table.reindex(columns=["start_s", "end_s"]).apply(pd.to_numeric, errors="coerce")
    given = table.reindex(columns=["start_s", "end_s"]).notna()
    start, end = spans["start_s"].fillna(0), spans["end_s"]
    wrong = (given & spans.isna()).any(axis=1) | (start < 0) | (end <= start)
    _refuse_lines(source, wrong, "start_s and end_s must be seconds, 0 <= start_s < end_s")
    known = table[[c for c in ("path", "genre", "recording", "split") if c in table]].join(spans)
    return [_make_record(record, source.parent) for record in known.to_dict("records")]


def _refuse_lines(source: Path, wrong: pd.Series, what: str) -> None:
    """Name the first wrong line of a CSV."""
    if wrong.any():
        raise DataError(f"{source}, line {wrong.to_numpy().argmax() + 2}: {what} ({wrong.sum()} such lines)")


def _make_record(record: Mapping[Hashable, Any], base: Path) -> dict[str, Any]:
    """One line of the CSV without its empty fields."""
    given = {str(k): v for k, v in record.items() if not pd.isna(v)}
    name = given["path"]
    return {"recording": name, "listed": name, **given, "path": (base / name).expanduser().resolve()}


def _cut_track(track: dict[str, Any], max_clips: int) -> list[dict[str, Any]]:
    """Rows of the clips table for one track, or for one listed stretch of it."""
    path, config, offset_s, starts, end_s, stamp = (
        track["path"],
        AudioConfig(),
        track.get("start_s", 0.0),
        [0.0],
        0.0,
        "",
    )
    row = {"split": None, **track, "path": str(path), "status": "pending", "reason": ""}
    try:
        path.name.encode()
        stat, whole_s = path.stat(), decoding.read_duration_s(path)
        stamp, end_s = f"{stat.st_size}-{stat.st_mtime_ns}", min(whole_s, track.get("end_s", whole_s))
        if end_s <= offset_s:
            raise AudioError("too_short", f"{path} ends after {whole_s:.1f} s, before start_s {offset_s:g}")
        starts = window_starts(end_s - offset_s, config, max_windows=max_clips)
    except AudioError as error:
        row |= {"status": error.status, "reason": error.reason}
    except OSError as error:
        row |= {"status": "undecodable", "reason": f"{path}: {error.strerror}"}
    except UnicodeEncodeError:
        row |= {
            "path": track["listed"],
            "status": "undecodable",
            "reason": f"rename {track['listed']}: it is not UTF-8",
        }
    spans = [(offset_s + start, min(end_s, offset_s + start + config.clip_s)) for start in starts]
    return [
        row | {"clip_id": f"{track['listed']}@{a:g}", "start_s": a, "end_s": b, "stamp": f"{stamp}-{b:g}"}
        for a, b in spans
    ]
