"""Download of one AudioSet segment as one audio file, with yt-dlp."""

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
from genre.errors import GenreError, UsageError, hide_secrets

#: Default address of a video.
YOUTUBE_URL = "https://www.youtube.com/watch?v={ytid}"

#: The paper's format (AAC, 128 kbit/s), otherwise the nearest to it. The codec shifts high bands, so the ledger
#: records which one it was.
FORMAT = "140/bestaudio[ext=m4a]/bestaudio/best"

#: Of a video longer than this, only byte ranges around the segment are read; a shorter one is downloaded whole (one
#: request, 4 MB). Seconds.
LONG_VIDEO_S = 720.0

#: A download slower than this is abandoned, bytes per second. YouTube throttles to 32 KiB/s, which is still accepted; a
#: server that sends a few bytes at a time would take days.
MIN_BYTES_PER_S = 8192

#: Some formats of YouTube can be read only after the advertisement before them has ended. Longest wait for that,
#: seconds.
MAX_WAIT_S = 30.0

#: Bytes read at a time from a long video: 16 seconds of AAC at 128 kbit/s, far below the size that YouTube throttles.
_RANGE_BYTES = 1 << 18


@dataclass(frozen=True)
class DownloadSettings:
    """Address, file format and connection of the downloads.

    Attributes
    ----------
    url : str
        Address of a video, with ``{ytid}`` in place of its id.
    sr : int
        Sampling rate of the files, Hz.
    format : {"flac", "wav"}
        Format of the files, 16 bits.
    timeout_s : float
        Longest time without data from a connection, seconds.
    cookies, proxy : str
        Path of a cookies file, and address of a proxy; empty for none. Neither appears in any message.
    """

    url: str = YOUTUBE_URL
    sr: int = 44100
    format: Literal["flac", "wav"] = "flac"
    timeout_s: float = 20.0
    cookies: str = field(default="", repr=False)
    proxy: str = field(default="", repr=False)

    def check_values(self) -> None:
        """Check the settings before the first download.

        Raises
        ------
        UsageError
            If a value is out of range, or the cookies file does not exist.
        GenreError
            If the address is YouTube's and yt-dlp finds no JavaScript runtime.
        """
        self.check_parameters()
        if self.cookies and not Path(self.cookies).expanduser().is_file():
            raise UsageError("GENRE_COOKIES names a file that does not exist; unset it, or export the cookies again")
        if "youtube.com" in self.url:
            _require_javascript_runtime()

    def check_parameters(self) -> None:
        """Check the settings that are parameters of the flow; they need nothing of this machine.

        Raises
        ------
        UsageError
            If a value is out of range.
        """
        if "{ytid}" not in self.url:
            raise UsageError(f"url must hold {{ytid}} in place of the video's id, got {self.url!r}")
        if self.format not in ("flac", "wav") or not 8000 <= self.sr <= 192000 or self.timeout_s <= 0:
            raise UsageError(
                f"format must be flac or wav, sr from 8000 to 192000, timeout_s positive; got {self.format!r}, "
                f"{self.sr} and {self.timeout_s}"
            )


def javascript_runtimes() -> tuple[list[str], str]:
    """Find the JavaScript runtimes of this machine that yt-dlp knows.

    Returns
    -------
    usable : list of str
        Those that yt-dlp can use, as ``name version``.
    too_old : str
        Those that are too old for it, in words; may be empty.
    """
    import yt_dlp  # noqa: F401  (its runtimes are registered on import)
    from yt_dlp.globals import supported_js_runtimes

    installed = [info for runtime in supported_js_runtimes.value.values() if (info := runtime().info)]
    too_old = ", ".join(f"{r.name} {r.version}, which is too old" for r in installed if not r.supported)
    return [f"{r.name} {r.version}" for r in installed if r.supported], too_old


def _require_javascript_runtime() -> None:
    usable, too_old = javascript_runtimes()
    if not usable:
        raise GenreError(
            f"yt-dlp needs a JavaScript runtime for YouTube and finds {too_old or 'none'}; "
            'install one with "pip install deno"'
        )


class SegmentDownloader:
    """Downloader of one segment after another, in one session. Each thread needs its own.

    Parameters
    ----------
    settings : DownloadSettings
        Address, format and connection.
    scratch : Path
        Folder for unfinished files, used by no other downloader; emptied before and after each segment.
    """

    def __init__(self, settings: DownloadSettings, scratch: Path) -> None:
        import yt_dlp

        self._settings = settings
        self._scratch = scratch
        # a copy of the cookies, because yt-dlp writes to the file it gets
        cookies = io.StringIO(Path(settings.cookies).expanduser().read_text()) if settings.cookies else None
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
            # the ledger counts and delays attempts, so yt-dlp must not repeat requests on its own
            "retries": 0,
            "extractor_retries": 0,
            "fragment_retries": 5,
            "skip_unavailable_fragments": False,
            "socket_timeout": settings.timeout_s,
            "throttledratelimit": MIN_BYTES_PER_S,
            "js_runtimes": {name: {} for name in ("deno", "node", "quickjs", "bun")},
            "cookiefile": cookies,
        }
        self._ydl = yt_dlp.YoutubeDL(options | ({"proxy": settings.proxy} if settings.proxy else {}))
        self._tools = f"yt-dlp {yt_dlp.version.__version__}, soundfile {soundfile.__version__}, PyAV {version('av')}"

    def download_segment(self, segment: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """Download one segment and write its clip.

        Parameters
        ----------
        segment : mapping
            A row of the ledger.
        folder : Path
            Of the clips.

        Returns
        -------
        dict
            Columns of the ledger: those of `save_clip`, and ``format``, ``bytes`` (read from the network), ``tools``,
            ``path``.

        Raises
        ------
        DownloadError
            With the class of the fault. The attempt leaves no file behind.
        """
        self._empty_scratch()
        try:
            return self._download(segment, clip_path(folder, segment, self._settings.format))
        except DownloadError as error:
            raise DownloadError(error.fault.name, self._redact(str(error))) from None
        except Exception as error:  # yt-dlp raises any type; only its message shows the fault
            message = self._redact(str(error) or type(error).__name__)
            raise DownloadError(classify_error(message), message) from error
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _empty_scratch(self) -> None:
        """Empty the folder of unfinished files, or yt-dlp might continue the part of a segment that a kill left."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        try:
            self._scratch.mkdir(parents=True)
        except OSError as error:
            raise DownloadError("disk", f"cannot make the folder {self._scratch}: {error.strerror}") from None

    def _download(self, segment: Mapping[str, Any], target: Path) -> dict[str, Any]:
        info = self._ydl.extract_info(self._settings.url.replace("{ytid}", quote(segment["ytid"])), download=False)
        video_s = info.get("duration")
        if video_s and video_s <= segment["start_s"]:
            raise DownloadError("gone", f"the video ends after {video_s:g} s, before the segment")
        is_last_attempt = segment["attempts"] + 1 >= FAULTS_BY_NAME["short"].attempts
        ends_early = video_s is not None and video_s < segment["end_s"] + 1
        values, n_bytes = self._cut_segment(info, segment, target, may_be_short=is_last_attempt or ends_early)
        return {
            **values,
            "format": str(info.get("format_id") or ""),
            "bytes": n_bytes,
            "tools": self._tools,
            "path": f"{target.parent.name}/{target.name}",
        }

    def _cut_segment(
        self, info: dict[str, Any], segment: Mapping[str, Any], target: Path, *, may_be_short: bool
    ) -> tuple[dict[str, Any], int]:
        """Cut the segment out of byte ranges of a long file, or of the whole file; also return the bytes read."""
        options: dict[str, Any] = {"sr": self._settings.sr, "may_be_short": may_be_short}
        if (info.get("duration") or 0) > LONG_VIDEO_S and info.get("protocol") in ("http", "https"):
            time.sleep(min(MAX_WAIT_S, max(0.0, (info.get("available_at") or 0) - time.time())))
            ranges = _RangeReader(self._ydl, info)
            if ranges.supported:
                try:
                    values = save_clip(io.BufferedReader(ranges, _RANGE_BYTES), segment, target, **options)
                    return values, ranges.n_bytes
                except DownloadError:
                    if ranges.error:
                        raise ranges.error from None
                    raise
        self._ydl.process_info(info)
        files = sorted(self._scratch.iterdir())
        if not files or not files[0].stat().st_size:
            raise DownloadError("empty", "the downloaded file is empty")
        return save_clip(files[0], segment, target, **options), files[0].stat().st_size

    def _redact(self, message: str) -> str:
        """Put a message on one line and remove secrets: the proxy, the cookies file, the query of an address."""
        for secret in (self._settings.proxy, self._settings.cookies):
            message = message.replace(secret, "...") if secret else message
        message = re.sub(r"\x1b\[[0-9;]*m|[\r\n]+", " ", hide_secrets(message))
        return re.sub(r"^\s*ERROR:\s*", "", message).strip()[:500]


def _escape_template(path: Path) -> str:
    """Escape a path for yt-dlp's file name template."""
    return str(path).replace("%", "%%")


class _RangeReader(io.RawIOBase):
    """Remote file, read in byte ranges with yt-dlp's headers, cookies and proxy."""

    def __init__(self, ydl: Any, info: Mapping[str, Any]) -> None:
        self._ydl = ydl
        self._url = info["url"]
        self._headers = dict(info.get("http_headers") or {})
        self._position = 0
        self.n_bytes = 0
        self.error: DownloadError | None = None
        _, total = self._get_range(0, 1)
        self.supported = bool(total)
        self._size = int(total or 0)

    def _get_range(self, first: int, n: int) -> tuple[bytes, str]:
        """Return bytes, and the size of the whole file, which is empty if the server does not support ranges."""
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
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = offset + origin
        return self._position

    def readinto(self, buffer: Any) -> int:
        n = min(len(buffer), self._size - self._position)
        if n <= 0 or self.error:
            return 0
        try:
            data, _ = self._get_range(self._position, n)
        except Exception as error:  # a decoder's callback cannot raise: it gets the end of the file
            self.error = DownloadError(classify_error(str(error)), str(error))  # `_cut_segment` raises it
            return 0
        buffer[: len(data)] = data
        self._position += len(data)
        self.n_bytes += len(data)
        return len(data)


class _SilentLogger:
    """Logger for yt-dlp that discards everything, because the exceptions hold the same text."""

    def debug(self, message: str) -> None:
        """Discard a message."""

    info = warning = error = debug
