"""One AudioSet segment to one audio file, through yt-dlp."""

import io
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import soundfile

from genre.acquisition.clip_file import clip_path, save_clip
from genre.acquisition.faults import FAULTS_BY_NAME, DownloadError, classify_error
from genre.errors import GenreError, UsageError

#: Where a video is, unless told otherwise.
YOUTUBE_URL = "https://www.youtube.com/watch?v={ytid}"

#: The paper's format (AAC, 128 kbit/s), else what comes nearest. The codec shifts high bands: the ledger names it.
FORMAT = "140/bestaudio[ext=m4a]/bestaudio/best"

#: Videos above this many seconds are read by ranges about the segment, shorter ones fetched whole: one request, 4 MB.
LONG_VIDEO_S = 720.0

#: Bytes a second below which a download is given up: YouTube throttles to 32 KiB/s, and a drip would last for days.
MIN_BYTES_PER_S = 8192

#: YouTube has some formats wait out the advertisement before them; no longer than this is believed.
MAX_WAIT_S = 30.0

#: Bytes read at a time from a long video: a few seconds of AAC at 128 kbit/s, far below what YouTube throttles.
_RANGE_BYTES = 1 << 18


@dataclass(frozen=True)
class DownloadSettings:
    """Where audio comes from, and as what it is kept.

    Attributes
    ----------
    url : str
        Address of a video, ``{ytid}`` standing for its id.
    sr : int
        Sampling rate of the files, Hz.
    format : {"flac", "wav"}
        Of the files, 16 bits.
    timeout_s : float
        How long a connection may be silent.
    cookies, proxy : str
        A cookies file, and a proxy's address; empty for none. Kept out of every message.
    """

    url: str = YOUTUBE_URL
    sr: int = 44100
    format: Literal["flac", "wav"] = "flac"
    timeout_s: float = 20.0
    cookies: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)

    def check_values(self) -> None:
        """See whether segments can be asked for at all.

        Raises
        ------
        UsageError
            If a value is out of range, or the cookies file is not there.
        GenreError
            If YouTube is asked and yt-dlp has no JavaScript runtime for it.
        """
        if "{ytid}" not in self.url:
            raise UsageError(f"url must hold {{ytid}} where the video's id belongs, got {self.url!r}")
        if self.format not in ("flac", "wav") or not 8000 <= self.sr <= 192000 or self.timeout_s <= 0:
            raise UsageError(
                f"format must be flac or wav, sr from 8000 to 192000, timeout_s positive; got {self.format!r}, "
                f"{self.sr} and {self.timeout_s}"
            )
        if self.cookies and not Path(self.cookies).expanduser().is_file():
            raise UsageError("GENRE_COOKIES names a file that is not there; unset it, or export the cookies again")
        if "youtube.com" in self.url and not (runtimes := javascript_runtimes())[0]:
            raise GenreError(
                f"yt-dlp needs a JavaScript runtime for YouTube and finds {runtimes[1] or 'none'}; "
                'install one with "pip install deno"'
            )


def javascript_runtimes() -> tuple[list[str], str]:
    """Runtimes that yt-dlp can use, as ``name version``, and those that are too old for it, in words."""
    import yt_dlp  # noqa: F401  (its runtimes are registered on import)
    from yt_dlp.globals import supported_js_runtimes

    found = [info for kind in supported_js_runtimes.value.values() if (info := kind().info)]
    old = ", ".join(f"{r.name} {r.version}, which is too old" for r in found if not r.supported)
    return [f"{r.name} {r.version}" for r in found if r.supported], old


class SegmentDownloader:
    """Asks for one segment after another, in one session. One for each thread.

    Parameters
    ----------
    source : Source
        Where audio comes from.
    scratch : Path
        Folder of its own for what is not finished; emptied before and after each segment.
    """

    def __init__(self, source: DownloadSettings, scratch: Path) -> None:
        import yt_dlp

        self._source, self._scratch = source, scratch
        # a copy of the cookies: yt-dlp writes to what it is given
        cookies = io.StringIO(Path(source.cookies).expanduser().read_text()) if source.cookies else None
        options = {
            "format": FORMAT,
            "outtmpl": f"{_escape_template(scratch)}/media.%(ext)s",
            "quiet": True,
            "noprogress": True,
            "no_warnings": True,
            "logger": _SilentLogger(),
            "noplaylist": True,
            "continuedl": False,
            "cachedir": False,
            "fixup": "never",
            # the ledger counts and delays attempts: nothing is asked for again behind its back
            "retries": 0,
            "extractor_retries": 0,
            "fragment_retries": 5,
            "skip_unavailable_fragments": False,
            "socket_timeout": source.timeout_s,
            "throttledratelimit": MIN_BYTES_PER_S,
            "js_runtimes": {name: {} for name in ("deno", "node", "quickjs", "bun")},
            "cookiefile": cookies,
        }
        self._ydl = yt_dlp.YoutubeDL(options | ({"proxy": source.proxy} if source.proxy else {}))
        self._tools = f"yt-dlp {yt_dlp.version.__version__}, soundfile {soundfile.__version__}, PyAV {version('av')}"

    def download_segment(self, segment: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Fetch one segment and keep it.

        Parameters
        ----------
        segment : mapping
            A row of the ledger.
        folder : Path
            Of the clips.

        Returns
        -------
        dict
            What the ledger records: see `save_clip`, and ``format``, ``bytes`` (read from the network), ``tools``.

        Raises
        ------
        FetchError
            With the class of what went wrong. Nothing is left of the attempt.
        """
        self._empty_scratch()
        try:
            return self._download(segment, clip_path(folder, segment, self._source.format))
        except DownloadError as error:
            raise DownloadError(error.fault.name, self._redact(str(error))) from None
        except Exception as error:  # yt-dlp raises anything; its words tell
            message = self._redact(str(error) or type(error).__name__)
            raise DownloadError(classify_error(message), message) from error
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _empty_scratch(self) -> None:
        """See that nothing of another segment is there: yt-dlp might go on with a part that a kill left."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        try:
            self._scratch.mkdir(parents=True)
        except OSError as error:
            raise DownloadError("disk", f"cannot make the folder {self._scratch}: {error.strerror}") from None

    def _download(self, segment: Mapping[str, Any], target: Path) -> dict[str, Any]:
        info = self._ydl.extract_info(self._source.url.replace("{ytid}", quote(segment["ytid"])), download=False)
        known_s = info.get("duration")
        if known_s and known_s <= segment["start_s"]:
            raise DownloadError("gone", f"the video ends after {known_s:g} s, before the segment")
        last = segment["attempts"] + 1 >= FAULTS_BY_NAME["short"].attempts
        ends_early = known_s is not None and known_s < segment["end_s"] + 1
        values, n_bytes = self._cut_segment(info, segment, target, may_be_short=last or ends_early)
        told = {"format": str(info.get("format_id") or ""), "bytes": n_bytes, "tools": self._tools}
        return values | told | {"path": f"{target.parent.name}/{target.name}"}

    def _cut_segment(
        self, info: dict[str, Any], segment: Mapping[str, Any], target: Path, *, may_be_short: bool
    ) -> tuple[dict[str, Any], int]:
        """Keep the segment out of the whole file, or of the ranges of a long one that it lies in; and bytes read."""
        how: dict[str, Any] = {"sr": self._source.sr, "may_be_short": may_be_short}
        if (info.get("duration") or 0) > LONG_VIDEO_S and info.get("protocol") in ("http", "https"):
            time.sleep(min(MAX_WAIT_S, max(0.0, (info.get("available_at") or 0) - time.time())))
            ranges = _RangeReader(self._ydl, info)
            if ranges.supported:
                try:
                    return save_clip(io.BufferedReader(ranges, _RANGE_BYTES), segment, target, **how), ranges.n_bytes
                except DownloadError:
                    if ranges.error:
                        raise ranges.error from None
                    raise
        self._ydl.process_info(info)
        files = sorted(self._scratch.iterdir())
        if not files or not files[0].stat().st_size:
            raise DownloadError("empty", "the downloaded file is empty")
        return save_clip(files[0], segment, target, **how), files[0].stat().st_size

    def _redact(self, message: str) -> str:
        """A message on one line, without secrets: no proxy, no cookies file, no query of an address."""
        for secret in (self._source.proxy, self._source.cookies):
            message = message.replace(secret, "...") if secret else message
        message = re.sub(r"(https?://)[^\s/@]*@", r"\1...@", message)
        message = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?...", message)
        message = re.sub(r"\x1b\[[0-9;]*m|[\r\n]+", " ", message)
        return re.sub(r"^\s*ERROR:\s*", "", message).strip()[:500]


def _escape_template(path: Path) -> str:
    """A path within yt-dlp's file name template."""
    return str(path).replace("%", "%%")


class _RangeReader(io.RawIOBase):
    """A remote file, read by ranges through yt-dlp's connection: with its headers, cookies and proxy."""

    def __init__(self, ydl: Any, info: Mapping[str, Any]) -> None:
        self._ydl, self._url, self._headers = ydl, info["url"], dict(info.get("http_headers") or {})
        self._at = self._size = self.n_bytes = 0
        self.error: DownloadError | None = None
        _, total = self._get_range(0, 1)
        self.supported, self._size = bool(total), int(total or 0)

    def _get_range(self, first: int, n: int) -> tuple[bytes, str]:
        """Bytes, and the length of the whole; no length where the server knows no ranges."""
        from yt_dlp.networking import Request

        headers = self._headers | {"Range": f"bytes={first}-{first + n - 1}", "Accept-Encoding": "identity"}
        response = self._ydl.urlopen(Request(self._url, headers=headers))
        try:
            if response.status != 206:
                return b"", ""
            return response.read(), response.headers.get("Content-Range", "").rpartition("/")[2].strip("* ")
        finally:
            response.close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        n = min(len(buffer), self._size - self._at)
        if n <= 0 or self.error:
            return 0
        try:
            data, _ = self._get_range(self._at, n)
        except Exception as error:  # a decoder's callback cannot raise: it sees the end, the caller the reason
            self.error = DownloadError(classify_error(str(error)), str(error))
            return 0
        buffer[: len(data)] = data
        self._at += len(data)
        self.n_bytes += len(data)
        return len(data)


class _SilentLogger:
    """A logger for yt-dlp: what it has to say is in what it raises."""

    def debug(self, message: str) -> None:
        """Nothing."""

    info = warning = error = debug
