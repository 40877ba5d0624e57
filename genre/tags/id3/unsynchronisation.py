"""Unsynchronisation: a null character behind 0xFF, so that no decoder takes a tag for sound (ID3v2.3.0, section 5)."""

import re
from bisect import bisect_right

_STUFFED = re.compile(rb"\xff\0")
_FALSE_SYNC = re.compile(rb"\xff(?:[\xe0-\xff]|\Z)")
_TO_BE_STUFFED = re.compile(rb"\xff(?=[\xe0-\xff\0]|\Z)")


class Body:
    """Content of a tag without unsynchronisation, and the place of each of its bytes in the file.

    Parameters
    ----------
    stored : bytes
        Content as it is in the file.
    start : int
        Where in the file it begins.
    unsynchronised : bool
        True if null characters have been put into it.

    Attributes
    ----------
    bytes : bytes
        Content without them.
    """

    def __init__(self, stored: bytes, start: int, *, unsynchronised: bool) -> None:
        self._start = start
        self.bytes = synchronise(stored) if unsynchronised else stored
        found = _STUFFED.finditer(stored) if unsynchronised else ()
        self._dropped = [match.start() + 1 - n for n, match in enumerate(found)]

    def locate(self, index: int) -> int:
        """Return the offset in the file of a byte; a null character dropped before it belongs to the one before."""
        return self._start + index + bisect_right(self._dropped, index)


def is_unsynchronised(stored: bytes) -> bool:
    """Return True if bytes hold nothing that a decoder could take for the beginning of a frame of sound."""
    return _FALSE_SYNC.search(stored) is None


def synchronise(stored: bytes) -> bytes:
    """Return bytes without the null characters that were put into them."""
    return stored.replace(b"\xff\0", b"\xff")


def unsynchronise(content: bytes) -> bytes:
    """Return bytes with a null character behind each 0xFF that needs one, or whose follower is not known."""
    return _TO_BE_STUFFED.sub(b"\xff\0", content)
