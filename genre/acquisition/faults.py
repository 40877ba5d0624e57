"""What can go wrong when a segment is asked for, told apart by the words of yt-dlp, and what each calls for."""

import re
from dataclasses import dataclass
from typing import Literal

from genre.errors import GenreError

#: ``session``: nothing else will be answered either, ask no more for a while. ``permanent``: never ask again.
#: ``transient``: ask again later. ``machine``: nothing can be stored, stop.
FaultKind = Literal["session", "permanent", "transient", "machine"]


@dataclass(frozen=True)
class Fault:
    """A class of error.

    Attributes
    ----------
    name : str
        What the ledger records.
    kind : {"session", "permanent", "transient", "machine"}
        What it calls for.
    pattern : str
        Regular expression of its words, in any case; empty where it is told otherwise than by words.
    attempts : int
        How often a segment is asked for before a transient fault is taken for permanent.
    """

    name: str
    kind: FaultKind
    pattern: str = ""
    attempts: int = 5


#: The first that matches counts. What concerns the session comes first: YouTube's rate limit begins like a video that
#: is gone. Words of yt-dlp 2026.8 and 2026.10, and of its public threads.
FAULTS = (
    Fault("bot_check", "session", r"confirm you.{1,8}re not a bot"),
    Fault("rate_limit", "session", r"rate-limited by YouTube|content isn.{1,8}t available, try again later"),
    Fault("disk", "machine", r"No space left|quota exceeded|File too large|unable to (?:open for writing|write)"),
    Fault("private", "permanent", r"private video|video is private"),
    Fault("members", "permanent", r"members.only|join this channel"),
    Fault(
        "age", "permanent", r"confirm your age|age.restricted|AGE_VERIFICATION_REQUIRED|inappropriate for some users"
    ),
    Fault("geo", "permanent", r"in your country|geo.?restrict"),
    Fault("copyright", "permanent", r"on copyright grounds|copyright claim"),
    Fault("drm", "permanent", r"\bDRM\b"),
    Fault(
        "gone",
        "permanent",
        r"video unavailable|no longer available|has been removed|been terminated|removed by the uploader"
        r"|video is not available|HTTP Error (?:404|410)\b",
    ),
    Fault("no_formats", "transient", r"requested format is not available|only images|challenge solving failed", 3),
    Fault("http_429", "transient", r"HTTP Error 429\b"),
    Fault("http_403", "transient", r"HTTP Error 403\b"),
    Fault("http", "transient", r"HTTP Error \d+"),
    Fault("throttled", "transient", r"throttle limit"),
    Fault("truncated", "transient", r"more expected|incomplete ?read"),
    Fault("empty", "transient", r"file is empty|did not get any data", 3),
    Fault("wrong_type", "transient", r"unsupported URL", 3),
    Fault("network", "transient", r"timed out|connection|unable to connect|getaddrinfo|resolve|\bSSL\b|TransportError"),
    Fault("short", "transient", attempts=3),
    Fault("undecodable", "transient", attempts=3),
    Fault("silent", "permanent"),
    Fault("unknown", "transient", attempts=3),
)

FAULTS_BY_NAME = {fault.name: fault for fault in FAULTS}


class DownloadError(GenreError):
    """A segment that could not be had, with the class of the error.

    Attributes
    ----------
    fault : Fault
        Its class.
    """

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message)
        self.fault = FAULTS_BY_NAME[fault]

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.fault.name, str(self))


def classify_error(message: str) -> str:
    """Name of the first of `FAULTS` whose words are in a message; ``unknown`` where there are none."""
    found = (f.name for f in FAULTS if f.pattern and re.search(f.pattern, message, re.I))
    return next(found, "unknown")
