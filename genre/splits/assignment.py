"""Train, validation and test, dealt by recording, append-only."""

import hashlib
from collections.abc import Mapping

import pandas as pd

from genre.config import SPLITS
from genre.errors import DataError
from genre.workspace import BUILD_FIRST

#: Where each genre's first three recordings go, so that no split lacks a genre.
_FIRST_SPLITS = ("train", "test", "validation")

#: The paper's proportions (section 4.1), for data sets large enough that a twentieth is worth its name.
LARGE_SHARES = {"train": 0.90, "validation": 0.05, "test": 0.05}
SMALL_SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}
LARGE_CLIPS = 5000


def assign_splits(clips: pd.DataFrame, assigned: pd.DataFrame | None = None) -> pd.DataFrame:
    """Give every recording a split and leave those that have one where they are.

    New recordings are taken in the order of the hash of their name, genre by genre; the first three go to
    training, test and validation, each later one to the split that lacks most of its share of clips: 90/5/5 above
    5,000 clips, 70/15/15 below.

    Parameters
    ----------
    clips : pd.DataFrame
        Usable clips; columns ``clip_id``, ``genre`` (categorical), ``recording``. A recording whose clips bear
        several genres counts for the most frequent.
    assigned : pd.DataFrame, optional
        Columns ``recording`` and ``split``, as returned before.

    Returns
    -------
    pd.DataFrame
        Columns ``recording`` and ``split``: all of `assigned`, then the new ones.

    Raises
    ------
    DataError
        If there are fewer than two genres, a genre has fewer than three recordings, or a side lost all it had of one.
    """
    recordings = _summarise_recordings(clips)
    _check_recordings(recordings, list(clips["genre"].cat.categories))
    shares = LARGE_SHARES if len(clips) > LARGE_CLIPS else SMALL_SHARES
    known = {} if assigned is None else dict(zip(assigned["recording"], assigned["split"], strict=True))
    rows = [] if assigned is None else [assigned]
    for _, group in recordings.groupby("genre"):
        new_splits = _assign_genre(group["n_clips"], known, shares)
        rows.append(pd.DataFrame({"recording": new_splits.keys(), "split": new_splits.values()}, dtype=str))
    out = pd.concat(rows, ignore_index=True)
    _check_genre_coverage(attach_splits(clips, out), "each recording keeps its side for ever; add recordings")
    return out


def add_merged_recordings(assigned: pd.DataFrame, before: pd.Series, after: pd.Series) -> pd.DataFrame:
    """`assigned` with the names of recordings that were merged into others, so that each keeps its split if they part.

    Parameters
    ----------
    assigned : pd.DataFrame
        As `assign_splits` returns.
    before, after : pd.Series
        Recording of each clip before and after copies were joined.

    Returns
    -------
    pd.DataFrame
        All of `assigned`, then the names that are new.
    """
    split_of_recording = assigned.set_index("recording")["split"]
    names = (
        pd.DataFrame({"recording": before, "split": after.map(split_of_recording)})
        .dropna()
        .drop_duplicates("recording")
    )
    return pd.concat([assigned, names[~names["recording"].isin(assigned["recording"])].astype(str)], ignore_index=True)


def attach_splits(clips: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """`clips` in the order of their ids, each with the split of its recording.

    Raises
    ------
    DataError
        If a recording was never dealt.
    """
    split_of_recording = splits.drop_duplicates("recording").set_index("recording")["split"]
    clips = clips.sort_values("clip_id").assign(split=clips["recording"].map(split_of_recording))
    if clips["split"].isna().any():
        raise DataError(f"some clips have no split yet; {BUILD_FIRST}")
    return clips.reset_index(drop=True)


def published_splits(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the split that the source publishes, as `assign_splits` would.

    Raises
    ------
    DataError
        If the source has none, it is incomplete or unknown, or puts one recording on two sides.
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
    torn = published.loc[published["recording"].duplicated(), "recording"]
    if len(torn):
        raise DataError(
            f"the source puts recording {torn.iloc[0]!r} (and {len(torn) - 1} more) on two sides; use split=dealt"
        )
    _check_genre_coverage(clips, "complete it, or use split=dealt")
    return published.astype(str).reset_index(drop=True)


def _summarise_recordings(clips: pd.DataFrame) -> pd.DataFrame:
    """Genre (the most frequent, of equals the first by name) and ``n_clips`` of every recording, in order of names."""
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
    counts = recordings["genre"].value_counts().reindex(genres, fill_value=0)
    if len(genres) < 2:
        raise DataError(f"only one genre, {', '.join(genres) or 'none'}; a classifier needs at least two")
    poor = counts[counts < len(SPLITS)]
    if len(poor):
        names = ", ".join(f"{genre} has {n}" for genre, n in poor.items())
        raise DataError(
            f"too few usable recordings for train, validation and test: {names}; each genre needs at least "
            f"{len(SPLITS)} (a recording is a track: all of its clips stay on one side)"
        )


def _assign_genre(n_clips: pd.Series, known: Mapping[str, str], shares: Mapping[str, float]) -> dict[str, str]:
    """Split of each new recording of one genre."""
    held = dict.fromkeys(SPLITS, 0)
    for recording, n in n_clips.items():
        if recording in known:
            held[known[str(recording)]] += n
    new_splits: dict[str, str] = {}
    for recording in sorted((str(r) for r in n_clips.index if r not in known), key=_hash_order):
        held_total = sum(held.values()) + n_clips[recording]
        empty = [s for s in _FIRST_SPLITS if not held[s]]
        split = empty[0] if empty else max(SPLITS, key=lambda s: shares[s] * held_total - held[s])
        new_splits[recording] = split
        held[split] += n_clips[recording]
    return new_splits


def _hash_order(recording: str) -> str:
    return hashlib.sha256(recording.encode()).hexdigest()
