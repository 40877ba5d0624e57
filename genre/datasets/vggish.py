"""Google's published VGGish features of AudioSet: no audio, but removed videos are included."""

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
N_VALUES = 128
VALUE_RANGE = (-2.0, 2.0)

#: Fields of a record other than the values.
CONTEXT = ("video_id", "labels", "start_time_seconds", "end_time_seconds")

#: Mean and standard deviation over the seconds of a clip.
VGGISH_NAMES = [f"vggish_{n}_{statistic}" for statistic in ("mean", "std") for n in range(1, N_VALUES + 1)]


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
    """List the segments of the genres among the records.

    Parameters
    ----------
    source : Path
        Folder with ``.tfrecord`` files, to any depth, as in AudioSet's ``features.tar.gz``; or one such file.
    directory : Path
        Not used.
    genres, descendants, policy, labels
        As for `genre.acquisition.segments.SegmentSelection`; the class names are looked for in `source` first.
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
        If there is no record, one cannot be read, or no record has one of the genres.
    """
    choice = SegmentSelection(genres=genres, descendants=descendants, policy=policy)
    choice.check_values()
    # class names are looked for in the folder of this path, whether or not the file exists
    list_path = str(source / "records" if source.is_dir() else source)
    class_ids = ontology.class_ids(labels, list_path)
    mids_by_genre = ontology.resolve_genres(genres, labels, list_path)
    if descendants:
        mids_by_genre = ontology.with_descendants(mids_by_genre, ontology_path)
    rows = [_make_row(context, class_ids) for context, _ in _iter_records(source)]
    table = pd.DataFrame(rows).drop_duplicates("clip_id").reset_index(drop=True)
    chosen = segments.label_segments(table, mids_by_genre, policy)
    if chosen.empty:
        raise DataError(
            f"none of the {len(table)} records in {source} is of {', '.join(mids_by_genre)}; choose other genres"
        )
    names = [name for name in mids_by_genre if name in set(chosen["genre"])]
    genre = pd.Categorical(chosen["genre"], categories=names)
    chosen = chosen.assign(path="", dataset="vggish", split=None, stamp="", status="ok", reason="")
    return chosen.assign(genre=genre, recording=chosen["ytid"])


def load_features(source: Path) -> pd.DataFrame:
    """Compute mean and standard deviation of each of the 128 values over the seconds of a record.

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
    features: dict[str, np.ndarray] = {}
    for context, values in _iter_records(source):
        scaled = VALUE_RANGE[0] + values.astype(np.float32) * ((VALUE_RANGE[1] - VALUE_RANGE[0]) / 255)
        features[_clip_id(context)] = np.concatenate([scaled.mean(axis=0), scaled.std(axis=0)])
    table = np.stack(list(features.values()))
    return pd.DataFrame(table, index=pd.Index(features, name="clip_id"), columns=VGGISH_NAMES)


def _clip_id(context: dict[str, Any]) -> str:
    return segments.segment_clip_id(context["video_id"], context["start_time_seconds"])


def _make_row(context: dict[str, Any], class_ids: list[str]) -> dict[str, Any]:
    """Return a record as a row for `genre.acquisition.segments.label_segments`."""
    return {
        "clip_id": _clip_id(context),
        "ytid": context["video_id"],
        "start_s": context["start_time_seconds"],
        "end_s": context["end_time_seconds"],
        "mids": ",".join(class_ids[n] for n in context["labels"]),
        "number": -1,
    }


def _iter_records(source: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield context and values (uint8, seconds by 128) of every record that has any."""
    paths = [source] if source.is_file() else sorted(source.rglob("*.tfrecord"))
    if not paths:
        raise DataError(f"no .tfrecord file in {source}; unpack AudioSet's features.tar.gz there")
    tf = _tensorflow()
    from google.protobuf.message import DecodeError

    n_records = 0
    for path in paths:
        try:
            for record in _iter_serialised(tf, path):
                context, values = _parse_example(tf.train.SequenceExample.FromString(record))
                if len(values):
                    n_records += 1
                    yield context, values
        except tf.errors.OpError as error:  # its message begins with the path
            raise DataError(f"cannot read {error.message}; it must be a readable file") from None
        except (ValueError, IndexError, DecodeError) as error:
            raise DataError(f"{path} is damaged, or holds no VGGish features ({error}); unpack it again") from None
    if not n_records:
        raise DataError(f"no record with features in {source}; unpack AudioSet's features.tar.gz again")


def _iter_serialised(tf: ModuleType, path: Path) -> Iterator[bytes]:
    """Yield the serialised records of a TFRecord file, each checked against its checksum."""
    # The reader of TensorFlow 1, because tf.data.TFRecordDataset would reserve the GPU only to read a file. Unwrapped,
    # it logs no deprecation warning.
    read_records = inspect.unwrap(tf.compat.v1.io.tf_record_iterator)
    size = 0
    try:
        for record in read_records(str(path)):
            size += len(record) + 16  # 12 bytes of length and checksum before it, 4 of checksum after it
            yield record
    except tf.errors.DataLossError:
        raise ValueError("a record is cut short, or does not match its checksum") from None
    if size != path.stat().st_size:  # to the reader, a file cut within those 12 bytes just ends there
        raise ValueError("it ends within a record")


def _parse_example(example: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Return context and values of one tf.train.SequenceExample."""
    context = example.context.feature
    lists = example.feature_lists.feature_list
    missing = set(CONTEXT) - set(context) | {"audio_embedding"} - set(lists)
    if missing:  # checked first, because a protocol buffer returns an empty feature for a name it lacks
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

    Its C++ code writes six lines to standard error before it reads TF_CPP_MIN_LOG_LEVEL. Only redirecting the file
    descriptor suppresses them.
    """
    terminal = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as null:
            os.dup2(null.fileno(), 2)
        import tensorflow as tf
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
    return tf
