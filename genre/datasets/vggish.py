"""Google's published VGGish features of AudioSet: no audio, and the videos that are gone are in it too."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genre.acquisition import ontology, segments
from genre.acquisition.segments import Policy, SegmentSelection
from genre.errors import DataError

#: Values of one second of audio, quantised to 8 bits over -2 to 2 (AudioSet's download page; VGGish's postprocessor).
N_VALUES, VALUE_RANGE = 128, (-2.0, 2.0)

#: Mean and standard deviation over the seconds of a clip.
VGGISH_NAMES = [f"vggish_{n}_{what}" for what in ("mean", "std") for n in range(1, N_VALUES + 1)]


def load_clips(
    source: Path,
    directory: Path,
    *,
    genres: str = "",
    descendants: bool = False,
    policy: Policy = "drop",
    labels: str = "",
    ontology_path: str = "",
) -> pd.DataFrame:
    """Segments of the genres among the records.

    Parameters
    ----------
    source : Path
        Folder with ``.tfrecord`` files, to any depth, as in AudioSet's ``features.tar.gz``; or one such file.
    directory : Path
        Not used.
    genres, descendants, policy, labels
        As in `genre.acquisition.segments.SegmentSelection`; the class names are looked for in `source` first.
    ontology_path : str
        Path or URL of AudioSet's ``ontology.json``; empty for the official one.

    Returns
    -------
    pd.DataFrame
        Clips table; the video is the recording.

    Raises
    ------
    UsageError
        If a genre is unknown.
    DataError
        If there is no record, one cannot be read, or none is of the genres.
    """
    choice = SegmentSelection(genres=genres, descendants=descendants, policy=policy)
    choice.check_values()
    beside = str(source / "records" if source.is_dir() else source)
    ids = ontology.class_ids(labels, beside)
    groups = ontology.resolve_genres(genres, labels, beside)
    if descendants:
        groups = ontology.with_descendants(groups, ontology_path)
    rows = [_row(context, ids) for context, _ in _records(source)]
    table = pd.DataFrame(rows).drop_duplicates("clip_id").reset_index(drop=True)
    chosen = segments.label_segments(table, groups, policy)
    if chosen.empty:
        raise DataError(f"none of the {len(table)} records in {source} is of {', '.join(groups)}; choose other genres")
    names = [name for name in groups if name in set(chosen["genre"])]
    genre = pd.Categorical(chosen["genre"], categories=names)
    chosen = chosen.assign(path="", dataset="vggish", split=None, stamp="", status="ok", reason="")
    return chosen.assign(genre=genre, recording=chosen["ytid"])


def load_features(source: Path) -> pd.DataFrame:
    """Mean and standard deviation of each of the 128 values over a record's seconds.

    Parameters
    ----------
    source : Path
        As for `load_clips`.

    Returns
    -------
    pd.DataFrame
        `VGGISH_NAMES`, float32, indexed by ``clip_id``.

    Raises
    ------
    DataError
        If there is no record, or one cannot be read.
    """
    found: dict[str, np.ndarray] = {}
    for context, values in _records(source):
        scaled = VALUE_RANGE[0] + values.astype(np.float32) * ((VALUE_RANGE[1] - VALUE_RANGE[0]) / 255)
        found[_clip_id(context)] = np.concatenate([scaled.mean(axis=0), scaled.std(axis=0)])
    table = np.stack(list(found.values()))
    return pd.DataFrame(table, index=pd.Index(found, name="clip_id"), columns=VGGISH_NAMES)


def _clip_id(context: dict[str, Any]) -> str:
    return segments.segment_clip_id(context["video_id"], context["start_time_seconds"])


def _row(context: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    """One record as a row that `genre.acquisition.segments.label_segments` takes."""
    return {
        "clip_id": _clip_id(context),
        "ytid": context["video_id"],
        "start_s": context["start_time_seconds"],
        "end_s": context["end_time_seconds"],
        "mids": ",".join(ids[n] for n in context["labels"]),
        "number": -1,
    }


def _records(source: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Context and values (uint8, seconds by 128) of every record that has any."""
    paths = [source] if source.is_file() else sorted(source.rglob("*.tfrecord"))
    if not paths:
        raise DataError(f"no .tfrecord file in {source}; unpack AudioSet's features.tar.gz there")
    for path in paths:
        try:
            for record in _split(path.read_bytes()):
                context, values = _parse(record)
                if len(values):
                    yield context, values
        except (ValueError, IndexError, KeyError, struct.error) as error:
            raise DataError(f"{path} is damaged, or holds no VGGish features ({error}); unpack it again") from None


def _split(data: bytes) -> Iterator[memoryview]:
    """Records of a TFRecord file: a length of eight bytes, its checksum of four, the record, its checksum of four."""
    at, view = 0, memoryview(data)
    while at < len(data):
        (n,) = struct.unpack_from("<Q", data, at)
        if at + n + 16 > len(data):
            raise ValueError("it ends within a record")
        yield view[at + 12 : at + 12 + n]
        at += n + 16


def _parse(record: memoryview) -> tuple[dict[str, Any], np.ndarray]:
    """Context and values of one tf.train.SequenceExample."""
    parts = dict(_fields(record))
    context = {key: _feature(value) for key, value in _map(parts[1])}
    lists = dict(_map(parts[2]))
    seconds = [_feature(value)[0] for _, value in _fields(lists["audio_embedding"])]
    if any(len(second) != N_VALUES for second in seconds):
        raise ValueError(f"seconds of {sorted({len(second) for second in seconds})} values, not {N_VALUES}")
    values = np.frombuffer(b"".join(seconds), np.uint8).reshape(-1, N_VALUES)
    told = {key: context[key][0] for key in ("start_time_seconds", "end_time_seconds")}
    return told | {"video_id": context["video_id"][0].decode(), "labels": context["labels"]}, values


def _map(message: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Entries of a map from names to messages."""
    for _, entry in _fields(message):
        pair = dict(_fields(entry))
        yield bytes(pair[1]).decode(), pair[2]


def _feature(message: memoryview) -> list[Any]:
    """Values of a tf.train.Feature: byte strings, floats or whole numbers."""
    ((kind, values),) = _fields(message)
    if kind == 1:
        return [bytes(value) for _, value in _fields(values)]
    if kind == 2:
        return [x for _, value in _fields(values) for x in np.frombuffer(value, "<f4").tolist()]
    return [x for _, value in _fields(values) for x in ([value] if isinstance(value, int) else _packed(value))]


def _packed(message: memoryview) -> Iterator[int]:
    """Whole numbers one after the other."""
    at = 0
    while at < len(message):
        number, at = _varint(message, at)
        yield number


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of every field of a protocol buffer message (its wire format)."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        n = {1: 8, 5: 4}.get(key & 7, -1)
        if key & 7 == 2:
            n, at = _varint(message, at)
        if not 0 <= n <= len(message) - at:
            raise ValueError("no protocol buffer message")
        yield key >> 3, message[at : at + n]
        at += n


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
