"""Classes of download faults, recognised by yt-dlp's messages, and the consequence of each."""

import re
from dataclasses import dataclass
from typing import Literal

from genre.errors import GenreError

#: Consequence of a fault. ``session``: every request is refused, so pause all downloads for a while. ``permanent``:
#: never request the segment again. ``transient``: request it again later. ``machine``: nothing can be stored, so stop.
FaultKind = Literal["session", "permanent", "transient", "machine"]


@dataclass(frozen=True)
class Fault:
    """One class of faults.

    Attributes
    ----------
    name : str
        Name of the class, as recorded in the ledger.
    kind : {"session", "permanent", "transient", "machine"}
        Consequence.
    pattern : str
        Regular expression that finds it in a message, in any case; empty if no message of yt-dlp shows it.
    attempts : int
        Number of attempts after which a transient fault counts as permanent.
    was_served : bool
        Whether YouTube served the video, so that the session works.
    """

    name: str
    kind: FaultKind
    pattern: str = ""
    attempts: int = 5
    was_served: bool = False


#: The first that matches counts. Faults of the session come first, because the message of YouTube's rate limit begins
#: like that of a removed video. Messages are those of yt-dlp 2026.8 and 2026.10 and of its public threads.
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
    Fault("short", "transient", attempts=3, was_served=True),
    Fault("undecodable", "transient", attempts=3, was_served=True),
    Fault("silent", "permanent", was_served=True),
    Fault("unknown", "transient", attempts=3),
)

#: Faults by which YouTube denies a video for ever, and those that show that it serves this session.
DENIALS = tuple(fault.name for fault in FAULTS if fault.kind == "permanent" and not fault.was_served)
SERVED = tuple(fault.name for fault in FAULTS if fault.was_served)

FAULTS_BY_NAME = {fault.name: fault for fault in FAULTS}


class DownloadError(GenreError):
    """Failed download of a segment, with the class of its fault.

    Attributes
    ----------
    fault : Fault
        Class of the fault.
    """

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message)
        self.fault = FAULTS_BY_NAME[fault]

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.fault.name, str(self))


def classify_error(message: str) -> str:
    """Return the name of the first of `FAULTS` whose pattern matches a message, or ``unknown``."""
    matches = (fault.name for fault in FAULTS if fault.pattern and re.search(fault.pattern, message, re.I))
    return next(matches, "unknown")
