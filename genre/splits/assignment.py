"""Assignment of recordings to train, validation and test; append-only."""

import hashlib
from collections.abc import Mapping

import pandas as pd

from genre.config import SPLITS
from genre.errors import DataError
from genre.workspace import BUILD_FIRST

#: Splits of each genre's first three recordings, in order, so that no split lacks a genre.
_FIRST_SPLITS = ("train", "test", "validation")

#: The paper's proportions (section 4.1), for data sets of which a twentieth is enough to test on.
LARGE_SHARES = {"train": 0.90, "validation": 0.05, "test": 0.05}

#: Proportions for all other data sets.
SMALL_SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}

#: Number of clips above which a data set is split by `LARGE_SHARES`.
LARGE_CLIPS = 5000


def assign_splits(clips: pd.DataFrame, assigned: pd.DataFrame | None = None) -> pd.DataFrame:
    """Assign new recordings to train, validation or test; existing assignments never change.

    New recordings are taken genre by genre, in the order of the hash of their name. The first three of a genre go to
    train, test and validation, each later one to the split that is furthest below its share of clips: 90/5/5 above
    5,000 clips, 70/15/15 up to there.

    Parameters
    ----------
    clips : pd.DataFrame
        Usable clips; columns ``clip_id``, ``genre`` (categorical), ``recording``. A recording whose clips have
        several genres counts for the most frequent one.
    assigned : pd.DataFrame, optional
        Columns ``recording`` and ``split``, as returned by an earlier call.

    Returns
    -------
    pd.DataFrame
        Columns ``recording`` and ``split``: all of `assigned`, then the new ones.

    Raises
    ------
    DataError
        If there are fewer than two genres, a genre has fewer than three recordings, or a split has lost all its
        recordings of a genre.
    """
    recordings = summarise_recordings(clips)
    _check_recordings(recordings, list(clips["genre"].cat.categories))
    shares = LARGE_SHARES if len(clips) > LARGE_CLIPS else SMALL_SHARES
    split_of_recording = {} if assigned is None else dict(zip(assigned["recording"], assigned["split"], strict=True))
    rows = [] if assigned is None else [assigned]
    for _, group in recordings.groupby("genre"):
        new_splits = _assign_genre(group["n_clips"], split_of_recording, shares)
        rows.append(pd.DataFrame({"recording": new_splits.keys(), "split": new_splits.values()}, dtype=str))
    out = pd.concat(rows, ignore_index=True)
    _check_genre_coverage(attach_splits(clips, out), "each recording keeps its split for ever; add recordings")
    return out


def add_merged_recordings(assigned: pd.DataFrame, before: pd.Series, after: pd.Series) -> pd.DataFrame:
    """Append the recordings that were merged into others, so that each keeps its split if they are separated again.

    Parameters
    ----------
    assigned : pd.DataFrame
        As `assign_splits` returns.
    before, after : pd.Series
        Recording of each clip before and after duplicates were merged.

    Returns
    -------
    pd.DataFrame
        All of `assigned`, then the merged recordings that are not in it, each with the split of its successor.
    """
    split_of_recording = assigned.set_index("recording")["split"]
    merged = pd.DataFrame({"recording": before, "split": after.map(split_of_recording)})
    merged = merged.dropna().drop_duplicates("recording")
    new = merged[~merged["recording"].isin(assigned["recording"])].astype(str)
    return pd.concat([assigned, new], ignore_index=True)


def attach_splits(clips: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Sort clips by their ids, and give each the split of its recording.

    Raises
    ------
    DataError
        If a recording was never assigned.
    """
    split_of_recording = splits.drop_duplicates("recording").set_index("recording")["split"]
    clips = clips.sort_values("clip_id").assign(split=clips["recording"].map(split_of_recording))
    if clips["split"].isna().any():
        raise DataError(f"some clips have no split yet; {BUILD_FIRST}")
    return clips.reset_index(drop=True)


def published_splits(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the split that the source publishes, in the form of `assign_splits`.

    Raises
    ------
    DataError
        If the source publishes no split, or its split is incomplete, has other names than train, validation and test,
        lacks a genre, or divides a recording.
    """
    published = clips[["recording", "split"]].drop_duplicates()
    if n := published["split"].isna().sum():
        raise DataError(
            f"the source gives {n} of {len(published)} recordings no split; each needs one of {', '.join(SPLITS)}, "
            "or use split=dealt"
        )
    wrong = sorted({str(s) for s in published["split"]} - set(SPLITS))
    if wrong:
        raise DataError(
            f"the source's split has {', '.join(wrong)}; each clip needs one of {', '.join(SPLITS)}, or use split=dealt"
        )
    divided = published.loc[published["recording"].duplicated(), "recording"]
    if len(divided):
        raise DataError(
            f"the source puts clips of recording {divided.iloc[0]!r} (and {len(divided) - 1} more) into several "
            "splits; use split=dealt"
        )
    _check_genre_coverage(clips, "complete it, or use split=dealt")
    return published.astype(str).reset_index(drop=True)


def summarise_recordings(clips: pd.DataFrame) -> pd.DataFrame:
    """Summarise every recording, in order of names.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``genre`` (categorical) and ``recording``.

    Returns
    -------
    pd.DataFrame
        Index ``recording``; ``genre``, the most frequent one of its clips (of equally frequent ones, the first by
        name), and ``n_clips``.
    """
    counts = clips.astype({"genre": str}).groupby(["recording", "genre"]).size().rename("n").reset_index()
    first = counts.sort_values(["recording", "n", "genre"], ascending=[True, False, True]).drop_duplicates("recording")
    genre = first.set_index("recording")["genre"].astype(clips["genre"].dtype)
    return pd.DataFrame({"genre": genre, "n_clips": clips.groupby("recording").size()})


def _check_genre_coverage(clips: pd.DataFrame, advice: str) -> None:
    """Refuse a split that lacks a genre."""
    for split in SPLITS:
        missing = set(clips["genre"].cat.categories) - set(clips.loc[clips["split"] == split, "genre"])
        if missing:
            raise DataError(f"the {split} split has no clip of {', '.join(sorted(missing))}; {advice}")


def _check_recordings(recordings: pd.DataFrame, genres: list[str]) -> None:
    """Refuse a data set with one genre only, or a genre with too few recordings to be in every split."""
    counts = recordings["genre"].value_counts().reindex(genres, fill_value=0)
    if len(genres) < 2:
        raise DataError(f"only one genre, {', '.join(genres) or 'none'}; a classifier needs at least two")
    too_few = counts[counts < len(SPLITS)]
    if len(too_few):
        names = ", ".join(f"{genre} has {n}" for genre, n in too_few.items())
        raise DataError(
            f"too few usable recordings for train, validation and test: {names}; each genre needs at least "
            f"{len(SPLITS)} (a recording is a track: all of its clips stay in one split)"
        )


def _assign_genre(n_clips: pd.Series, assigned: Mapping[str, str], shares: Mapping[str, float]) -> dict[str, str]:
    """Assign each new recording of one genre to a split."""
    n_of_split = dict.fromkeys(SPLITS, 0)
    for recording, n in n_clips.items():
        if recording in assigned:
            n_of_split[assigned[str(recording)]] += n
    new_splits: dict[str, str] = {}
    for recording in sorted((str(r) for r in n_clips.index if r not in assigned), key=_hash_order):
        total = sum(n_of_split.values()) + n_clips[recording]
        empty = [split for split in _FIRST_SPLITS if not n_of_split[split]]
        split = empty[0] if empty else max(SPLITS, key=lambda s: shares[s] * total - n_of_split[s])
        new_splits[recording] = split
        n_of_split[split] += n_clips[recording]
    return new_splits


def _hash_order(recording: str) -> str:
    """Return the sort key of a recording: an order that depends on nothing but its name."""
    return hashlib.sha256(recording.encode()).hexdigest()
