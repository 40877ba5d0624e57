"""Music of your own: a folder with one sub-folder per genre, or a CSV that lists the files."""

import os
import shlex
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from genre.audio import decoding
from genre.audio.clips import window_starts
from genre.audio.left_out import LeftOut
from genre.audio.listing import find_audio_files, list_subfolders
from genre.audio.suffixes import list_accepted, name_suffix
from genre.config import SPLITS, AudioConfig
from genre.errors import UNREAD, AudioError, DataError, describe_system_error

#: Rows put into a table at a time, because as records they take several times the memory.
ROWS_PER_TABLE = 4096


def load_clips(source: Path, directory: Path, left_out: LeftOut, *, max_clips_per_track: int = 6) -> pd.DataFrame:
    """Cut every track into ten-second clips.

    Parameters
    ----------
    source : Path
        Folder with one sub-folder per genre, searched to any depth; or a CSV with the columns ``path`` (absolute, or
        relative to the CSV) and ``genre``, and optionally ``recording``, ``split``, ``start_s`` and ``end_s``; others,
        such as ``confidence``, are not used.
    directory : Path
        Not used: the files stay where they are.
    left_out : LeftOut
        Receives the files that are not listed, and the genres without a file that is.
    max_clips_per_track : int
        Largest number of clips per track; they are spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table; genres in alphabetical order. The track is the recording, unless the CSV has that column.

    Raises
    ------
    DataError
        If there is no audio, the CSV lacks a column or has an invalid line, `max_clips_per_track` is less than 1, or
        the system fails to read a file, as where its disk is away.
    """
    if max_clips_per_track < 1:
        raise DataError(f"max_clips_per_track must be at least 1, got {max_clips_per_track}")
    tracks = find_tracks(source, left_out) if source.is_dir() else _read_csv(source)
    return cut_tracks(tracks, "folder", max_clips_per_track)


def cut_tracks(tracks: Iterable[Mapping[str, Any]], dataset: str, max_clips_per_track: int) -> pd.DataFrame:
    """Cut tracks into ten-second clips, several at a time.

    Parameters
    ----------
    tracks : iterable of mapping
        Each has ``path`` (Path), ``listed`` (the name that begins its clip ids), ``recording``, ``genre``, and
        optionally ``split``, ``start_s`` and ``end_s``.
    dataset : str
        Name of the data set.
    max_clips_per_track : int
        Largest number of clips per track; they are spread evenly over it.

    Returns
    -------
    pd.DataFrame
        Clips table; genres in alphabetical order.
    """
    # Threads, because a network drive serves several requests at once, and MP3 frames are counted on all cores.
    parallel = Parallel(n_jobs=4, prefer="threads", batch_size=16, return_as="generator")
    rows = chain.from_iterable(parallel(delayed(_cut_track)(dict(track), max_clips_per_track) for track in tracks))
    tables = [pd.DataFrame(records) for records in iter(lambda: list(islice(rows, ROWS_PER_TABLE)), [])]
    table = pd.concat(tables, ignore_index=True).assign(dataset=dataset)
    table["genre"] = pd.Categorical(table["genre"], categories=sorted(table["genre"].unique()))
    return table


def check_listing(source: Path) -> None:
    """Check by its listing alone that a source has two genres, and enough tracks of each.

    Parameters
    ----------
    source : Path
        As for `load_clips`.

    Raises
    ------
    DataError
        If it has not, or cannot be listed.
    """
    left_out = LeftOut()
    tracks = find_tracks(source, left_out) if source.is_dir() else _read_csv(source)
    recordings = {(track["genre"], track["recording"]) for track in tracks}
    counts = Counter(genre for genre, _ in recordings)
    listed = ", ".join(f"{genre} {n}" for genre, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    if len(counts) < 2:
        raise DataError(f"only one genre in {source}: {listed}; a classifier needs at least two{left_out.to_clause()}")
    if min(counts.values()) < len(SPLITS):
        raise DataError(
            f"too few tracks in {source}: each genre needs {len(SPLITS)} or more, one for each of "
            f"{', '.join(SPLITS)}; there are {listed}. Add tracks, or leave the genre out{left_out.to_clause()}"
        )


def find_tracks(source: Path, left_out: LeftOut) -> list[dict[str, Any]]:
    """Find the tracks of a folder with one sub-folder, or link to a folder, per genre, searched to any depth.

    Parameters
    ----------
    source : Path
        The folder.
    left_out : LeftOut
        Receives the files that are not listed, and the genres without a file that is.

    Returns
    -------
    list of dict
        Tracks for `cut_tracks`: ``path``, ``listed`` and ``recording`` (both the path within the folder), ``genre``.

    Raises
    ------
    DataError
        If there is no audio.
    """
    files = find_audio_files(source, left_out, follow_links=True)
    for path in files:
        if path.parent == source:
            left_out.add("files beside the folders of genres", path, name_suffix(path.name))
    tracks = [_make_track(path, source) for path in files if path.parent != source]
    genres = {path.relative_to(source).parts[0] for path in files}
    for name in list_subfolders(source):
        if name not in genres:
            left_out.add("folders without audio that is decoded", source / name, name)
    if not tracks and files:
        raise DataError(
            f"{len(files)} audio files in {source}, but none in a sub-folder; put them into one sub-folder per genre, "
            "train by the genres in their tags (-P dataset=tagged), or have the champion name them: "
            f"mlflow run . --env-manager local -e tag -P source={shlex.quote(str(source))}"
        )
    if not tracks:
        raise DataError(
            f"no audio in the sub-folders of {source}; it must hold one sub-folder per genre with files of "
            f"{list_accepted()}{left_out.to_clause()}"
        )
    return tracks


def _make_track(path: Path, source: Path) -> dict[str, Any]:
    """Return the record of one file.

    A path that is not UTF-8 cannot be stored in a table. Its bytes are written as escapes, and `_cut_track` refuses it.
    """
    name = os.fsencode(path.relative_to(source)).decode(errors="backslashreplace")
    return {"path": path, "listed": name, "recording": name, "genre": name.partition("/")[0]}


def read_listing(source: Path) -> pd.DataFrame:
    """Read the lines of a CSV of tracks as text, with all of its columns.

    Parameters
    ----------
    source : Path
        CSV with the columns ``path`` and ``genre``.

    Returns
    -------
    pd.DataFrame
        One row per line; empty cells are missing values.

    Raises
    ------
    DataError
        If it cannot be read, lacks one of the columns or a value in them, or has no line.
    """
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False, na_values=[""])
    except (ValueError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as CSV: {error}") from None
    missing = {"path", "genre"} - set(table.columns)
    if missing:
        raise DataError(f"{source} lacks the column {' and '.join(sorted(missing))}; it has {', '.join(table.columns)}")
    if table.empty:
        raise DataError(f"{source} lists no file; add a line per file below path,genre")
    _refuse_lines(source, table["path"].isna() | table["genre"].isna(), "path or genre is empty")
    return table


def resolve_listed(name: str, source: Path) -> Path:
    """Return the absolute path of a file that a CSV lists, by a path that may be relative to the CSV."""
    return (source.parent / name).expanduser().resolve()


def _read_csv(source: Path) -> list[dict[str, Any]]:
    """Read one record per row of a CSV: path, genre, recording, and the optional columns that are not empty."""
    table = read_listing(source)
    texts = table.reindex(columns=["start_s", "end_s"])
    spans = texts.apply(pd.to_numeric, errors="coerce")
    start_s = spans["start_s"].fillna(0)
    end_s = spans["end_s"]
    is_invalid = (texts.notna() & spans.isna()).any(axis=1) | (start_s < 0) | (end_s <= start_s)
    _refuse_lines(source, is_invalid, "start_s and end_s must be seconds, 0 <= start_s < end_s")
    used = table[[c for c in ("path", "genre", "recording", "split") if c in table]].join(spans)
    return [_make_record(record, source) for record in used.to_dict("records")]


def _refuse_lines(source: Path, is_invalid: pd.Series, problem: str) -> None:
    """Raise an error that names the first invalid line of a CSV."""
    if is_invalid.any():
        line = is_invalid.to_numpy().argmax() + 2  # lines count from 1, and the header is the first
        raise DataError(f"{source}, line {line}: {problem} ({is_invalid.sum()} such lines)")


def _make_record(record: Mapping[Hashable, Any], source: Path) -> dict[str, Any]:
    """Return one line of the CSV as a track, without its empty fields."""
    fields = {str(column): value for column, value in record.items() if not pd.isna(value)}
    name = fields["path"]
    return {"recording": name, "listed": name, **fields, "path": resolve_listed(name, source)}


def _cut_track(track: dict[str, Any], max_clips: int) -> list[dict[str, Any]]:
    """Return the rows of the clips table for one track, or for the listed stretch of it."""
    path = track["path"]
    config = AudioConfig()
    offset_s = track.get("start_s", 0.0)
    # a file that cannot be read gets one row, of no length
    starts = [0.0]
    end_s = 0.0
    stamp = ""
    row = {"split": None, **track, "path": str(path), "status": "pending", "reason": ""}
    try:
        str(path).encode()
        stat = path.stat()
        duration_s, is_ordered = decoding.read_length(path)
        # what was computed of such a file before all of it was decoded is not used again
        stamp = f"{stat.st_size}-{stat.st_mtime_ns}{'-ordered' if is_ordered else ''}"
        end_s = min(duration_s, track.get("end_s", duration_s))
        if end_s <= offset_s:
            raise AudioError("too_short", f"{path} ends after {duration_s:.1f} s, before start_s {offset_s:g}")
        starts = window_starts(end_s - offset_s, config, max_windows=max_clips)
    except AudioError as error:
        row |= {"status": error.status, "reason": error.reason}
    except (OSError, MemoryError) as error:
        row |= {"status": UNREAD, "reason": describe_system_error(path, error)}
    except UnicodeEncodeError:
        reason = f"the name {track['listed']} is not UTF-8; rename the file"
        row |= {"path": track["listed"], "status": "undecodable", "reason": reason}
    rows = []
    for start in starts:
        start_s = offset_s + start
        clip_end_s = min(end_s, start_s + config.clip_s)
        clip_id = f"{track['listed']}@{start_s:g}"
        rows.append(
            row | {"clip_id": clip_id, "start_s": start_s, "end_s": clip_end_s, "stamp": f"{stamp}-{clip_end_s:g}"}
        )
    return rows
