"""A video server on the loopback address that yt-dlp's generic extractor can read, with the faults of a real one.

``/watch?v=ID`` returns the audio of a video. Faults are set by id, and may be limited to some of the requests. All
requests are counted.
"""

import json
import re
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import soundfile as sf

from tests.support.sounds import tone

BOT = "Sign in to confirm you're not a bot"
RATE = (
    "Video unavailable. This content isn't available, try again later. The current session has been "
    "rate-limited by YouTube for up to an hour"
)
#: Refusals: status and reason phrase, which yt-dlp repeats in its error message.
REFUSALS = {
    "404": (404, "Not Found"),
    "403": (403, "Forbidden"),
    "429": (429, "Too Many Requests"),
    "503": (503, "Service Unavailable"),
    "bot": (403, BOT),
    "rate": (403, RATE),
    "private": (403, "Private video. Sign in if you've been granted access to this video"),
    "gone": (403, "Video unavailable. This video is no longer available"),
    "geo": (403, "Video unavailable. The uploader has not made this video available in your country"),
}
#: Duration of a stall, seconds; longer than the timeouts of the tests.
STALL_S = 6.0


class Videos(ThreadingHTTPServer):
    """The server; `faults` maps an id to its fault, which applies to the requests after `after` up to `until`."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, audio: bytes, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.audio = audio
        self.faults = dict[str, str]()
        self.until = dict[str, int]()
        self.after = dict[str, int]()
        self.asked = Counter[str]()
        self.served = Counter[str]()

    @property
    def url(self) -> str:
        """URL template, for the option ``url``."""
        return f"http://127.0.0.1:{self.server_port}/watch?v={{ytid}}"

    def audio_of(self, ytid: str) -> bytes:
        """Audio of one video; if the song is a 16-bit WAV file, its seconds are in an order that depends on the id."""
        if not self.audio.startswith(b"RIFF"):
            return self.audio
        head = self.audio[:44]
        body = self.audio[44:]
        size = 2 * int.from_bytes(head[24:28], "little")  # bytes per second
        seconds = [body[start : start + size] for start in range(0, len(body), size)]
        order = np.random.default_rng(zlib.crc32(ytid.encode())).permutation(len(seconds))
        return head + b"".join(seconds[i] for i in order)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that close the connection: some tests provoke that."""


@contextmanager
def serving(audio: bytes, port: int = 0) -> Iterator[Videos]:
    """Run the server for the duration of a block."""
    server = Videos(audio, port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def listed(*ytids: str, start_s: float = 5.0, end_s: float = 15.0, genres: str = "ab") -> pd.DataFrame:
    """Segments in the form that `genre.acquisition.segments.select_segments` returns, cycling through the genres."""
    rows = [
        {
            "clip_id": f"{ytid}_{start_s:g}",
            "ytid": ytid,
            "start_s": start_s,
            "end_s": end_s,
            "genre": genres[n % len(genres)],
            "genre_order": n % len(genres),
            "turn": n // len(genres),
            "number": n,
            "split": "",
        }
        for n, ytid in enumerate(ytids)
    ]
    return pd.DataFrame(rows)


def song(path: Path, seconds: float = 25.0, sr: int = 22050) -> bytes:
    """Audio of a video, with a different pitch in every second, so that the position of a cut can be checked."""
    y = np.concatenate([tone(1.0, hz=200 + 20 * n, seed=n, sr=sr) for n in range(round(seconds))])
    sf.write(path, y, sr)
    return path.read_bytes()


class _Handler(BaseHTTPRequestHandler):
    server: Videos

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        ytid = parse_qs(urlsplit(self.path).query)["v"][0]
        server = self.server
        is_page = urlsplit(self.path).path == "/page"
        # yt-dlp sends two requests, for the type and for the content; it closes the first one early.
        server.asked[ytid] += 1
        fault = server.faults.get(ytid, "")
        if not server.after.get(ytid, 0) < server.asked[ytid] <= server.until.get(ytid, 1 << 30):
            fault = ""
        if is_page:
            self._page(ytid)
        elif fault in REFUSALS:
            self.send_response(*REFUSALS[fault])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault == "stall":
            time.sleep(STALL_S)
        elif fault == "html":
            self._send(b"<html><body>Sorry.</body></html>", "text/html")
        else:
            self._audio(ytid, fault)

    def _page(self, ytid: str) -> None:
        """Send a page with the duration in it, as YouTube's does."""
        video = {"@context": "https://schema.org", "@type": "VideoObject", "name": ytid, "duration": "PT1H"}
        video["contentUrl"] = f"http://127.0.0.1:{self.server.server_port}/watch?v={ytid}"
        self._send(
            f'<html><script type="application/ld+json">{json.dumps(video)}</script></html>'.encode(), "text/html"
        )

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _audio(self, ytid: str, fault: str) -> None:
        body = {"empty": b"", "garbage": b"no audio at all, in spite of its type"}.get(fault)
        body = self.server.audio_of(ytid) if body is None else body
        if fault == "short":
            body = body[: len(body) // 5]
        if fault == "silence":
            body = body[:44] + bytes(len(body) - 44)
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(requested[1]) if requested else 0
        last = min(int(requested[2] or len(body)), len(body) - 1) if requested else len(body) - 1
        self.send_response(206 if requested else 200)
        self.send_header("Content-Type", "audio/x-wav")
        self.send_header("Content-Length", str(last + 1 - first))
        if requested:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(body)}")
        self.end_headers()
        part = body[first : last + 1]
        while fault == "drip" and part:
            self.wfile.write(part[:100])
            part = part[100:]
            time.sleep(0.05)
        if fault in ("reset", "truncated", "half_stall"):
            self.wfile.write(part[: len(part) // 2])
            self.wfile.flush()
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif fault == "half_stall":
            time.sleep(STALL_S)
        elif fault != "truncated":
            self.wfile.write(part)
            self.server.served[ytid] += 1
