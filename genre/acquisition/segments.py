"""AudioSet's segment lists: ten-second stretches of videos with their labels, and which of them are wanted."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from genre.acquisition import bahuleyan2018
from genre.acquisition.ontology import PAPER_GENRES, mids_pattern, resolve_genres, with_descendants
from genre.errors import DataError, UsageError

Policy = Literal["drop", "first", "paper"]
Split = Literal["dealt", "audioset", "bahuleyan2018"]

#: Where AudioSet publishes its lists (CC BY 4.0).
LISTS_URL = "http://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/"
LIST_FILES = ("balanced_train_segments.csv", "eval_segments.csv", "unbalanced_train_segments.csv")

#: Share of training that becomes validation where a published split has none: the paper's.
VALIDATION_SHARE = 0.05

#: Rows of a list held in memory at a time.
CHUNK_ROWS = 200_000

_FIELDS = {"ytid": str, "start_s": float, "end_s": float, "mids": str}


@dataclass(frozen=True)
class SegmentSelection:
    """Which segments are wanted.

    Attributes
    ----------
    genres : str
        Names or ids of AudioSet classes, separated by ``;`` or, where there is none, by commas; empty for the paper's.
    descendants : bool
        Whether a genre stands for what the ontology has below it too: AudioSet does not label parents.
    policy : {"drop", "first", "paper"}
        What becomes of a segment with several of the genres: ``drop``; ``first`` takes the first in the order of
        `genres`; ``paper`` as ``first``, and drops 10,000 Techno rows as the paper did.
    per_genre : int
        At most so many segments a genre; 0 for all.
    seed : int
        Of the order in which segments are taken.
    split : {"dealt", "audioset", "bahuleyan2018"}
        ``audioset`` tests on AudioSet's evaluation list, ``bahuleyan2018`` on the paper's 2,027 published test clips.
    labels, ontology, test_list : str
        Path or URL of class names, ontology and published test clips; empty for the official ones, class names being
        looked for beside the lists first.
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
        """See whether the values make sense, before anything is read.

        Raises
        ------
        UsageError
            If a number is negative, or policy or split are not among those above.
        """
        for name, kind in (("policy", Policy), ("split", Split)):
            accepted = kind.__args__  # type: ignore[attr-defined]
            if getattr(self, name) not in accepted:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}; choose from {', '.join(accepted)}")
        if self.per_genre < 0 or self.seed < 0:
            raise UsageError(f"per_genre and seed must not be negative, got {self.per_genre} and {self.seed}")


def select_segments(source: str, choice: SegmentSelection) -> pd.DataFrame:
    """Segments wanted, in the order in which to take them.

    Parameters
    ----------
    source : str
        As for `locate_lists`.
    choice : Choice
        Which of them.

    Returns
    -------
    pd.DataFrame
        Columns ``clip_id`` (``YTID_START``), ``ytid``, ``start_s``, ``end_s``, ``genre``, ``genre_order``, ``turn``
        (0, 1, ... within a genre), ``number`` (see `genre.acquisition.bahuleyan2018.number_rows`), ``split`` (empty
        unless a published one was asked for). Sorted by turn, then genre, so that any prefix is balanced.

    Raises
    ------
    UsageError
        If `choice` makes no sense, or a genre is unknown.
    DataError
        If a list cannot be read or is damaged, no segment is of the genres, or the split cannot be rebuilt.
    """
    choice.check_values()
    lists = locate_lists(source)
    genres = resolve_genres(choice.genres, choice.labels, lists[0])
    if choice.descendants:
        genres = with_descendants(genres, choice.ontology)
    # the paper's numbering counts rows of all its genres, whichever are wanted
    mids = {mid for group in genres.values() for mid in group} | set(PAPER_GENRES.values())
    rows = pd.concat([read_segment_list(path, mids) for path in lists], ignore_index=True)
    rows["number"] = bahuleyan2018.number_rows(rows)
    rows["split"] = _published_splits(rows, choice)
    chosen = label_segments(rows, genres, choice.policy).drop_duplicates("clip_id")
    if chosen.empty:
        raise DataError(f"no segment of {', '.join(genres)} in {', '.join(lists)}; choose other genres")
    chosen = _interleave_genres(chosen, choice)
    if choice.split != "dealt":
        chosen["split"] = _assign_validation(chosen)
    return chosen.drop(columns=["mids", "list"]).reset_index(drop=True)


def segment_clip_id(ytid: str, start_s: float) -> str:
    """``YTID_START``: the name of a segment's clip, and of its file. Thousandths of a second are kept."""
    return f"{ytid}_{start_s:.3f}".rstrip("0").rstrip(".")


def locate_lists(source: str) -> list[str]:
    """Paths or URLs of the lists that `source` names.

    Parameters
    ----------
    source : str
        Folder with any of AudioSet's three lists; paths or URLs of lists, separated by commas; empty for the official
        ones. Gzip allowed.

    Raises
    ------
    DataError
        If a folder holds none of them, or a file is not there.
    """
    if not source:
        return [LISTS_URL + name for name in LIST_FILES]
    folder = Path(source).expanduser()
    if folder.is_dir():
        found = [str(p) for name in LIST_FILES for p in (folder / name, folder / f"{name}.gz") if p.exists()]
        if not found:
            raise DataError(
                f"none of AudioSet's lists in {folder}; it must hold one of {', '.join(LIST_FILES)} (.gz allowed)"
            )
        return found
    paths = [part.strip() for part in source.split(",") if part.strip()]
    for path in paths:
        if "://" not in path and not Path(path).expanduser().exists():
            raise DataError(f"there is no {path}; give a folder with AudioSet's lists, or paths or URLs of them")
    return [path if "://" in path else str(Path(path).expanduser()) for path in paths]


def source_stamps(source: str) -> list[str]:
    """What tells the lists of `source`, as `locate_lists` takes it, from others and from later ones.

    The URL of each, or its path, size and time.

    Raises
    ------
    DataError
        If a folder holds no list, or a file is not there.
    """
    found = locate_lists(source)
    stats = [None if "://" in path else Path(path).stat() for path in found]
    return [f"{p} {s.st_size} {s.st_mtime_ns}" if s else p for p, s in zip(found, stats, strict=True)]


def read_segment_list(path: str, mids: set[str]) -> pd.DataFrame:
    """Rows of one list that bear one of the ids, in the list's order.

    Read in pieces of 200,000 rows, so that two million need little memory.

    Parameters
    ----------
    path : str
        Path or URL of a CSV with the columns YTID, start, end, ids; gzip allowed.
    mids : set of str
        AudioSet's class ids.

    Returns
    -------
    pd.DataFrame
        Columns ``ytid``, ``start_s``, ``end_s``, ``mids`` (separated by commas), ``clip_id``, ``list`` (file name).

    Raises
    ------
    DataError
        If the list cannot be read, or a row is not whole.
    """
    wanted, kept, n = mids_pattern(mids), [], 0
    layout: dict[str, Any] = {
        "names": list(_FIELDS),
        "dtype": _FIELDS,
        "index_col": False,
        "comment": "#",
        "skipinitialspace": True,
    }
    missing: dict[str, Any] = {"keep_default_na": False, "na_values": {"start_s": [""], "end_s": [""]}}
    try:
        for piece in pd.read_csv(path, chunksize=CHUNK_ROWS, **layout, **missing):
            _refuse_damage(piece, path, n)
            kept.append(piece[piece["mids"].str.contains(wanted)])
            n += len(piece)
    except (ValueError, EOFError, OSError) as error:  # pandas' ParserError is a ValueError
        advice = "give -P source=PATH of AudioSet's lists" if "://" in path else "download it again"
        raise DataError(f"{path} cannot be read as a list of segments ({error}); {advice}") from None
    rows = pd.concat(kept, ignore_index=True) if kept else pd.DataFrame(columns=list(_FIELDS))
    ids = [segment_clip_id(y, s) for y, s in zip(rows["ytid"], rows["start_s"], strict=True)]
    return rows.assign(clip_id=pd.Series(ids, dtype=str), list=path.replace("\\", "/").rsplit("/", 1)[-1])


def _refuse_damage(piece: pd.DataFrame, path: str, n_before: int) -> None:
    """Name the first row that is not whole: a cut download, or another kind of table."""
    whole = piece["ytid"].str.fullmatch(r"[\w-]{1,64}") & piece["mids"].str.startswith("/", na=False)
    whole &= (piece["start_s"] >= 0) & (piece["end_s"] > piece["start_s"])
    if not whole.all():
        at = int((~whole).to_numpy().argmax())
        row = ", ".join(map(str, piece.iloc[at]))
        raise DataError(f"{path}, segment {n_before + at + 1} is not whole: {row}; download the list again")


def label_segments(rows: pd.DataFrame, genres: Mapping[str, set[str]], policy: Policy) -> pd.DataFrame:
    """Rows with one genre each, by the policy for those with several.

    Parameters
    ----------
    rows : pd.DataFrame
        Column ``mids``, the ids of each, separated by commas; for the policy ``paper``, ``number`` too.
    genres : mapping
        Name of each genre to the ids that stand for it, in order.
    policy : {"drop", "first", "paper"}
        See `SegmentSelection`.

    Returns
    -------
    pd.DataFrame
        Those of `rows` that have a genre, with the columns ``genre`` and ``genre_order``.
    """
    has = np.column_stack([rows["mids"].str.contains(mids_pattern(mids)).to_numpy(bool) for mids in genres.values()])
    n = has.sum(axis=1)
    keep = pd.Series(n == 1 if policy == "drop" else n > 0, index=rows.index)
    labelled = rows.assign(genre_order=has.argmax(axis=1), genre=np.array(list(genres))[has.argmax(axis=1)]).loc[keep]
    if policy == "paper":
        labelled = labelled.loc[
            ~bahuleyan2018.mark_dropped(labelled["genre"].to_numpy(), labelled["number"].to_numpy())
        ]
    return labelled


def _interleave_genres(chosen: pd.DataFrame, choice: SegmentSelection) -> pd.DataFrame:
    """In an order drawn by the seed, one of each genre in turn, and the cap. More rows do not reorder those there."""
    hashes = [hashlib.sha256(f"{choice.seed} {name}".encode()).hexdigest() for name in chosen["clip_id"]]
    chosen = chosen.assign(_hash=hashes).sort_values("_hash").drop(columns="_hash")
    chosen["turn"] = chosen.groupby("genre").cumcount()
    if choice.per_genre:
        chosen = chosen[chosen["turn"] < choice.per_genre]
    return chosen.sort_values(["turn", "genre_order"])


def _published_splits(rows: pd.DataFrame, choice: SegmentSelection) -> pd.Series:
    """Test and training as published, or nothing."""
    if choice.split == "dealt":
        return pd.Series("", index=rows.index)
    paper = choice.split == "bahuleyan2018"
    test = bahuleyan2018.is_test(rows, choice.test_list) if paper else rows["list"].str.startswith("eval")
    return pd.Series(np.where(test, "test", "train"), index=rows.index)


def _assign_validation(chosen: pd.DataFrame) -> pd.Series:
    """The published sides, with the first twentieth of each genre's training rows as validation."""
    turns = chosen.loc[chosen["split"] == "train"].groupby("genre")["turn"]
    validation = turns.rank() <= np.maximum(1, np.floor(VALIDATION_SHARE * turns.transform("size")))
    return chosen["split"].mask(validation.reindex(chosen.index, fill_value=False), "validation")
