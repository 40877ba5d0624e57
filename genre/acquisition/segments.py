"""AudioSet's segment lists (ten-second stretches of videos with their labels), and the selection of segments."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from genre.acquisition import bahuleyan2018
from genre.acquisition.ontology import (
    PAPER_GENRES,
    is_local,
    labels_path,
    mids_pattern,
    resolve_genres,
    with_descendants,
)
from genre.errors import DataError, UsageError

Policy = Literal["drop", "first", "paper"]
Split = Literal["dealt", "audioset", "bahuleyan2018"]

#: Address of AudioSet's lists (CC BY 4.0).
LISTS_URL = "http://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/"
LIST_FILES = ("balanced_train_segments.csv", "eval_segments.csv", "unbalanced_train_segments.csv")

#: Share of the training rows that becomes validation if a published split has none: the paper's share.
VALIDATION_SHARE = 0.05

#: Rows of a list held in memory at a time.
CHUNK_ROWS = 200_000

_FIELDS = {"ytid": str, "start_s": float, "end_s": float, "mids": str}


@dataclass(frozen=True)
class SegmentSelection:
    """Criteria by which segments are selected.

    Attributes
    ----------
    genres : str
        Names or ids of AudioSet classes, separated by ``;`` or, if it contains no ``;``, by commas; empty for the
        paper's.
    descendants : bool
        Whether a genre includes its descendants in the ontology; AudioSet does not label the parents of a class.
    policy : {"drop", "first", "paper"}
        Treatment of a segment with several of the genres: ``drop`` leaves it out, ``first`` takes the first in the
        order of `genres`, ``paper`` does as ``first`` and drops 10,000 Techno rows as the paper did.
    per_genre : int
        Largest number of segments per genre; 0 for all.
    seed : int
        Seed of the order in which segments are taken.
    split : {"dealt", "audioset", "bahuleyan2018"}
        Test set: AudioSet's evaluation list (``audioset``) or the paper's 2,027 published test clips
        (``bahuleyan2018``). ``dealt`` leaves the assignment to the project.
    labels, ontology, test_list : str
        Path or URL of class names, ontology and published test clips; empty for the official ones. Class names are
        looked for next to the segment lists first.
    """

    genres: str = ""
    descendants: bool = False
    policy: Policy = "drop"
    per_genre: int = 0
    seed: int = 0
    split: Split = "dealt"
    labels: str = ""
    ontology: str = ""
    test_list: str = ""

    def check_values(self) -> None:
        """Check the values before anything is read.

        Raises
        ------
        UsageError
            If a number is negative, or policy or split are not one of those above.
        """
        for name, literal in (("policy", Policy), ("split", Split)):
            value = getattr(self, name)
            accepted = literal.__args__  # type: ignore[attr-defined]
            if value not in accepted:
                raise UsageError(f"unknown {name} {value!r}; choose from {', '.join(accepted)}")
        if self.per_genre < 0 or self.seed < 0:
            raise UsageError(f"per_genre and seed must not be negative, got {self.per_genre} and {self.seed}")


def select_segments(source: str, choice: SegmentSelection) -> pd.DataFrame:
    """Select segments from lists and put them in the order in which to download them.

    Parameters
    ----------
    source : str
        As for `locate_lists`.
    choice : SegmentSelection
        Criteria.

    Returns
    -------
    pd.DataFrame
        Columns ``clip_id`` (``YTID_START``), ``ytid``, ``start_s``, ``end_s``, ``genre``, ``genre_order``, ``turn``
        (0, 1, ... within a genre), ``number`` (see `genre.acquisition.bahuleyan2018.number_rows`), ``split`` (empty
        unless a published split was chosen). Sorted by turn, then genre, so that any prefix is balanced.

    Raises
    ------
    UsageError
        If a value of `choice` is out of range, or a genre is unknown.
    DataError
        If a list cannot be read or is damaged, no segment has one of the genres, or the published split cannot be
        rebuilt.
    """
    choice.check_values()
    lists = locate_lists(source)
    genres = resolve_genres(choice.genres, choice.labels, lists[0])
    if choice.descendants:
        genres = with_descendants(genres, choice.ontology)
    # rows of all the paper's genres are read, even if only some are selected, because the paper's numbering counts them
    mids = {mid for group in genres.values() for mid in group} | set(PAPER_GENRES.values())
    rows = pd.concat([read_segment_list(path, mids) for path in lists], ignore_index=True)
    rows["number"] = bahuleyan2018.number_rows(rows)
    rows["split"] = _published_splits(rows, choice)
    chosen = label_segments(rows, genres, choice.policy).drop_duplicates("clip_id")
    if chosen.empty:
        raise DataError(f"no segment of {', '.join(genres)} in {', '.join(lists)}; choose other genres or lists")
    chosen = _interleave_genres(chosen, choice)
    if choice.split != "dealt":
        chosen["split"] = _assign_validation(chosen)
    return chosen.drop(columns=["mids", "list"]).reset_index(drop=True)


def check_selection(source: str, choice: SegmentSelection) -> None:
    """Check criteria, and that the files of this machine which they name exist; nothing is downloaded.

    Parameters
    ----------
    source, choice
        As for `select_segments`.

    Raises
    ------
    UsageError
        If a value of `choice` is out of range, or a genre is not in class names on this machine.
    DataError
        If a list does not exist, or the class names or the ontology on this machine cannot be read.
    """
    choice.check_values()
    list_path = locate_lists(source)[0]
    if is_local(choice.labels or labels_path(list_path)):
        resolve_genres(choice.genres, choice.labels, list_path)
    if choice.descendants and choice.ontology and is_local(choice.ontology):
        with_descendants({}, choice.ontology)


def segment_clip_id(ytid: str, start_s: float) -> str:
    """Return ``YTID_START``, the name of a segment's clip and of its file; the start has up to three decimals."""
    return f"{ytid}_{start_s:.3f}".rstrip("0").rstrip(".")


def locate_lists(source: str) -> list[str]:
    """Return the paths or URLs of the lists that `source` names.

    Parameters
    ----------
    source : str
        Folder with any of AudioSet's three lists, or paths or URLs of lists, separated by commas, or empty for the
        official ones. Lists may be compressed with gzip.

    Raises
    ------
    DataError
        If a folder holds none of the lists, or a file does not exist.
    """
    if not source:
        return [LISTS_URL + name for name in LIST_FILES]
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _find_lists(folder)
    return [_existing_list(part.strip()) for part in source.split(",") if part.strip()]


def _find_lists(folder: Path) -> list[str]:
    """Return the paths of AudioSet's lists in a folder."""
    candidates = [folder / f"{name}{suffix}" for name in LIST_FILES for suffix in ("", ".gz")]
    paths = [str(path) for path in candidates if path.exists()]
    if not paths:
        raise DataError(
            f"none of AudioSet's lists in {folder}; it must hold one of {', '.join(LIST_FILES)} (.gz allowed)"
        )
    return paths


def _existing_list(path: str) -> str:
    """Return a URL as it is, or the path of a list that exists."""
    if "://" in path:
        return path
    if not Path(path).expanduser().exists():
        raise DataError(f"there is no {path}; give a folder with AudioSet's lists, or paths or URLs of them")
    return str(Path(path).expanduser())


def source_stamps(source: str) -> list[str]:
    """Return a stamp of each list, which changes when another list is named or a file is modified.

    Parameters
    ----------
    source : str
        As for `locate_lists`.

    Returns
    -------
    list of str
        The URL of each list, or its path, size in bytes and modification time in nanoseconds.

    Raises
    ------
    DataError
        If a folder holds no list, or a file does not exist.
    """
    return [path if "://" in path else _file_stamp(path) for path in locate_lists(source)]


def _file_stamp(path: str) -> str:
    stat = Path(path).stat()
    return f"{path} {stat.st_size} {stat.st_mtime_ns}"


def read_segment_list(path: str, mids: set[str]) -> pd.DataFrame:
    """Read the rows of one list that have one of the ids, in the order of the list.

    The list is read in pieces of 200,000 rows, so that its two million rows need little memory.

    Parameters
    ----------
    path : str
        Path or URL of a CSV with the columns YTID, start, end, ids; may be compressed with gzip.
    mids : set of str
        AudioSet's class ids.

    Returns
    -------
    pd.DataFrame
        Columns ``ytid``, ``start_s``, ``end_s``, ``mids`` (separated by commas), ``clip_id``, ``list`` (file name).

    Raises
    ------
    DataError
        If the list cannot be read, or a row is not valid.
    """
    pattern = mids_pattern(mids)
    pieces = []
    n = 0  # rows read so far
    layout: dict[str, Any] = {
        "names": list(_FIELDS),
        "dtype": _FIELDS,
        "index_col": False,
        "comment": "#",
        "skipinitialspace": True,
    }
    # an id may be the text NA; only an empty time is missing
    missing: dict[str, Any] = {"keep_default_na": False, "na_values": {"start_s": [""], "end_s": [""]}}
    try:
        for piece in pd.read_csv(path, chunksize=CHUNK_ROWS, **layout, **missing):
            _refuse_invalid_row(piece, path, n)
            pieces.append(piece[piece["mids"].str.contains(pattern)])
            n += len(piece)
    except (ValueError, EOFError, OSError) as error:  # pandas' ParserError is a ValueError
        advice = "set -P source= to AudioSet's lists on this machine" if "://" in path else "download it again"
        raise DataError(f"{path} cannot be read as a list of segments ({error}); {advice}") from None
    rows = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=list(_FIELDS))
    ids = [segment_clip_id(ytid, start_s) for ytid, start_s in zip(rows["ytid"], rows["start_s"], strict=True)]
    return rows.assign(clip_id=pd.Series(ids, dtype=str), list=path.replace("\\", "/").rsplit("/", 1)[-1])


def _refuse_invalid_row(piece: pd.DataFrame, path: str, n_before: int) -> None:
    """Raise an error for the first invalid row, as in a truncated download or another kind of table."""
    is_valid = piece["ytid"].str.fullmatch(r"[\w-]{1,64}") & piece["mids"].str.startswith("/", na=False)
    is_valid &= (piece["start_s"] >= 0) & (piece["end_s"] > piece["start_s"])
    if not is_valid.all():
        n = int((~is_valid).to_numpy().argmax())
        row = ", ".join(map(str, piece.iloc[n]))
        raise DataError(f"{path}: segment {n_before + n + 1} is incomplete: {row}; download the list again")


def label_segments(rows: pd.DataFrame, genres: Mapping[str, set[str]], policy: Policy) -> pd.DataFrame:
    """Give each row one genre, and drop the rows that have none.

    Parameters
    ----------
    rows : pd.DataFrame
        Column ``mids``, the ids of each row, separated by commas; for the policy ``paper`` also ``number``.
    genres : mapping
        Name of each genre to its ids, in order.
    policy : {"drop", "first", "paper"}
        Treatment of rows with several genres, see `SegmentSelection`.

    Returns
    -------
    pd.DataFrame
        The kept rows, with the additional columns ``genre`` and ``genre_order``.
    """
    patterns = [mids_pattern(mids) for mids in genres.values()]
    has_genre = np.column_stack([rows["mids"].str.contains(pattern).to_numpy(bool) for pattern in patterns])
    n_genres = has_genre.sum(axis=1)
    first_genre = has_genre.argmax(axis=1)
    keep = pd.Series(n_genres == 1 if policy == "drop" else n_genres > 0, index=rows.index)
    labelled = rows.assign(genre_order=first_genre, genre=np.array(list(genres))[first_genre]).loc[keep]
    if policy == "paper":
        is_dropped = bahuleyan2018.mark_dropped(labelled["genre"].to_numpy(), labelled["number"].to_numpy())
        labelled = labelled.loc[~is_dropped]
    return labelled


def _interleave_genres(chosen: pd.DataFrame, choice: SegmentSelection) -> pd.DataFrame:
    """Order the rows by the seed, one of each genre in turn, and cut each genre at its largest number.

    Rows are sorted by a hash of seed and clip, so that additional rows leave the order of the others as it is.
    """
    hashes = [hashlib.sha256(f"{choice.seed} {name}".encode()).hexdigest() for name in chosen["clip_id"]]
    chosen = chosen.assign(_hash=hashes).sort_values("_hash").drop(columns="_hash")
    chosen["turn"] = chosen.groupby("genre").cumcount()
    if choice.per_genre:
        chosen = chosen[chosen["turn"] < choice.per_genre]
    return chosen.sort_values(["turn", "genre_order"])


def _published_splits(rows: pd.DataFrame, choice: SegmentSelection) -> pd.Series:
    """Return "test" or "train" for each row as published, or empty text if the split is not a published one."""
    if choice.split == "dealt":
        return pd.Series("", index=rows.index)
    if choice.split == "bahuleyan2018":
        is_test = bahuleyan2018.is_test(rows, choice.test_list)
    else:
        is_test = rows["list"].str.startswith("eval")
    return pd.Series(np.where(is_test, "test", "train"), index=rows.index)


def _assign_validation(chosen: pd.DataFrame) -> pd.Series:
    """Return the published splits, with the first twentieth of each genre's training rows as validation."""
    turns = chosen.loc[chosen["split"] == "train"].groupby("genre")["turn"]
    n_validation = np.maximum(1, np.floor(VALIDATION_SHARE * turns.transform("size")))
    is_validation = (turns.rank() <= n_validation).reindex(chosen.index, fill_value=False)
    return chosen["split"].mask(is_validation, "validation")
