"""Google's published VGGish features of AudioSet: no audio, and the videos that are gone are in it too."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from genre.acquisition import ontology, segments
from genre.acquisition.segments import Policy, SegmentSelection
from genre.errors import DataError

#: Values of one second of audio, quantised to 8 bits over -2 to 2 (AudioSet's download page; VGGish's postprocessor).
N_VALUES, VALUE_RANGE = 128, (-2.0, 2.0)

#: What a record tells beside the values.
CONTEXT = ("video_id", "labels", "start_time_seconds", "end_time_seconds")

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
    """Yield context and values (uint8, seconds by 128) of every record that has any."""
    paths = [source] if source.is_file() else sorted(source.rglob("*.tfrecord"))
    if not paths:
        raise DataError(f"no .tfrecord file in {source}; unpack AudioSet's features.tar.gz there")
    tf = _tensorflow()
    from google.protobuf.message import DecodeError

    n_records = 0
    for path in paths:
        try:
            for record in _split(tf, path):
                context, values = _parse(tf.train.SequenceExample.FromString(record))
                if len(values):
                    n_records += 1
                    yield context, values
        except tf.errors.OpError as error:  # its message begins with the path
            raise DataError(f"cannot read {error.message}; it must be a file that you may read") from None
        except (ValueError, IndexError, DecodeError) as error:
            raise DataError(f"{path} is damaged, or holds no VGGish features ({error}); unpack it again") from None
    if not n_records:
        raise DataError(f"no record with features in {source}; unpack AudioSet's features.tar.gz again")


def _split(tf: ModuleType, path: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file, each checked against its checksum."""
    # The reader of TensorFlow's first version, since tf.data.TFRecordDataset would take the GPU only to read a file.
    # Unwrapped, it does not warn that it is an old one.
    read = inspect.unwrap(tf.compat.v1.io.tf_record_iterator)
    size = 0
    try:
        for record in read(str(path)):
            size += len(record) + 16  # 12 bytes of length and checksum before it, 4 of checksum after it
            yield record
    except tf.errors.DataLossError:
        raise ValueError("a record is cut short, or does not match its checksum") from None
    if size != path.stat().st_size:  # the reader takes a cut within those 12 bytes for the end of the file
        raise ValueError("it ends within a record")


def _parse(example: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Return context and values of one tf.train.SequenceExample."""
    context, lists = example.context.feature, example.feature_lists.feature_list
    missing = set(CONTEXT) - set(context) | {"audio_embedding"} - set(lists)
    if missing:  # asked for a name it lacks, a protocol buffer returns an empty feature
        raise ValueError(f"a record without {', '.join(sorted(missing))}")
    seconds = [second.bytes_list.value[0] for second in lists["audio_embedding"].feature]
    if any(len(second) != N_VALUES for second in seconds):
        raise ValueError(f"seconds of {sorted({len(second) for second in seconds})} values, not {N_VALUES}")
    values = np.frombuffer(b"".join(seconds), np.uint8).reshape(-1, N_VALUES)
    return {
        "video_id": context["video_id"].bytes_list.value[0].decode(),
        "labels": list(context["labels"].int64_list.value),
        "start_time_seconds": context["start_time_seconds"].float_list.value[0],
        "end_time_seconds": context["end_time_seconds"].float_list.value[0],
    }, values


def _tensorflow() -> ModuleType:
    """Load TensorFlow without its messages in the terminal.

    Its C++ code writes six lines to standard error before it obeys TF_CPP_MIN_LOG_LEVEL; only the descriptor stops it.
    """
    terminal = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import tensorflow as tf
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
    return tf
