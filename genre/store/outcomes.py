"""Comparison of what a build leaves usable with what was usable before."""

from collections.abc import Mapping

import pandas as pd

from genre.errors import UNREAD, DataError


def mark_unread(clips: pd.DataFrame, unread: Mapping[str, str]) -> pd.DataFrame:
    """Return a clips table with the status ``unread`` of the clips that could not be read.

    Parameters
    ----------
    clips : pd.DataFrame
        Columns ``clip_id``, ``status`` and ``reason``.
    unread : mapping
        Id of each such clip to the reason.
    """
    reasons = clips["clip_id"].astype(str).map(dict(unread)).astype(object)
    is_unread = reasons.notna()
    return clips.assign(
        status=clips["status"].mask(is_unread, UNREAD), reason=clips["reason"].mask(is_unread, reasons).astype(str)
    )


def check_loss(before: pd.DataFrame | None, built: pd.DataFrame, n_unread: int, max_lost: float) -> None:
    """Refuse a build that loses too many of the clips that were usable.

    Parameters
    ----------
    before : pd.DataFrame, optional
        Columns ``clip_id`` and ``status`` of the clips table of the last build; None if there was none.
    built : pd.DataFrame
        Clips table of this build.
    n_unread : int
        Number of clips that were listed and could then not be read. They count as usable before.
    max_lost : float
        Largest share that may be lost, 0..1.

    Raises
    ------
    DataError
        If more are lost, with the reason of the first.
    """
    usable = set(built.loc[_is_usable(built), "clip_id"])
    earlier = set() if before is None else set(before.loc[_is_usable(before), "clip_id"])
    n_before = max(len(earlier), len(usable) + n_unread)
    n_lost = n_before - len(usable)
    if n_lost > max_lost * n_before:
        raise DataError(
            f"{n_lost} of {n_before} clips that were usable are lost, more than max_lost={max_lost:g} of them: "
            f"{_first_reason(built, earlier)}; the data set stays as it was; see that the disk with the music is there "
            'and run again, or run "-e build" with -P max_lost=1 if the music was removed on purpose'
        )


def _is_usable(clips: pd.DataFrame) -> pd.Series:
    """Return whether each clip is usable, or would be if it were not in the data set a second time."""
    return (clips["status"] == "ok") | clips["status"].astype(str).str.startswith("duplicate_of")


def _first_reason(built: pd.DataFrame, earlier: set[str]) -> str:
    """Return the reason for the first clip that could not be read, was usable earlier or is no longer listed."""
    is_unread = built["status"] == UNREAD
    was_usable = built["clip_id"].isin(earlier) & ~_is_usable(built)
    for is_lost in (is_unread, was_usable):
        if is_lost.any():
            return f"the first is {built.loc[is_lost, 'clip_id'].iloc[0]!r}: {built.loc[is_lost, 'reason'].iloc[0]}"
    return f"the source no longer has {min(earlier - set(built['clip_id']), default='them')!r}, the first of them"
