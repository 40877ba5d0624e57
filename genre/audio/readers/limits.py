"""Limits of what is decoded, whichever library reads it."""

from __future__ import annotations

from typing import NoReturn

from genre.errors import AudioError

#: Maximum number of channels of a file that is read in windows: beyond any microphone array, below what makes a small
#: file a large one in memory.
MAX_CHANNELS = 64


def check_channels(n: int) -> None:
    """Refuse a file with so many channels that decoding it would take too much memory.

    Parameters
    ----------
    n : int
        Number of channels.

    Raises
    ------
    AudioError
        ``undecodable`` above `MAX_CHANNELS`.
    """
    if n > MAX_CHANNELS:
        raise AudioError("undecodable", f"the file has {n} channels; at most {MAX_CHANNELS} are accepted")


def refuse_length(max_s: float) -> NoReturn:
    """Refuse a file that lasts too long.

    Parameters
    ----------
    max_s : float
        Longest that is accepted, seconds.

    Raises
    ------
    AudioError
        ``too_long``, always.
    """
    raise AudioError(
        "too_long", f"the file is longer than {max_s / 60:g} minutes, the most that is accepted; send it in parts"
    )
