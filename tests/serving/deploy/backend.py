"""A server in the place of a model's, which counts what reaches it, behind a real proxy."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from serving.deploy.limits import Limits
from serving.deploy.proxy import Proxy
from tests.support.servers import free_port

#: A valid response to one file.
RESPONSE = b'{"predictions": [{"genre": "one", "confidence": 1.0, "probabilities": {"one": 1.0}, "error": null}]}'

#: Limits small enough for a test: bodies of 1 MB, of which 50 kB are large.
SMALL = Limits(
    max_body_bytes=2**20,
    large_bytes=50_000,
    max_requests=2,
    max_large=1,
    wait_s=1,
    header_s=0.5,
    late_s=0.2,
    min_bytes_per_s=1000,
    receive_s=10,
    idle_s=0.5,
)


@dataclass
class Backend:
    """The proxy of this server, and counts: bytes of each complete body, bodies that broke off, open requests."""

    url: str
    port: int
    proxy: Proxy
    folder: Path
    bodies: list[int] = field(default_factory=list)
    n_cut: int = 0
    n_open: int = 0
    most_open: int = 0
    delay_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        self.bodies.clear()
        self.n_cut = self.most_open = 0
        self.delay_s = 0.0
        self.proxy.send_to(self.port)


def read_body(handler: BaseHTTPRequestHandler) -> int | None:
    """Read a body with a length or in chunks, and return its length; None if it breaks off."""
    n_bytes = 0
    chunked = "Content-Length" not in handler.headers
    left = 0 if chunked else int(handler.headers["Content-Length"])
    while left or chunked:
        if chunked and not left:
            line = handler.rfile.readline()
            if not line:
                return None
            left = int(line, 16)
            if not left:
                handler.rfile.readline()
                return n_bytes
        part = handler.rfile.read1(left)
        if not part:
            return None
        n_bytes += len(part)
        left -= len(part)
        if chunked and not left:
            handler.rfile.readline()
    return n_bytes


@contextmanager
def proxied(folder: Path, limits: Limits = SMALL) -> Iterator[Backend]:
    """Start a server and a proxy in front of it, whose files are in `folder`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with backend.lock:
                backend.n_open += 1
                backend.most_open = max(backend.most_open, backend.n_open)
            try:
                n_bytes = read_body(self)
                time.sleep(backend.delay_s)
            finally:
                with backend.lock:
                    backend.n_open -= 1
            if n_bytes is None:
                backend.n_cut += 1
                return
            backend.bodies.append(n_bytes)
            self.send_response(200)
            self.send_header("Content-Length", str(len(RESPONSE)))
            self.end_headers()
            self.wfile.write(RESPONSE)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = free_port()
    proxy = Proxy("127.0.0.1", port, folder, limits)
    backend = Backend(f"http://127.0.0.1:{port}", server.server_port, proxy, folder)
    try:
        proxy.send_to(backend.port)
        yield backend
    finally:
        proxy.stop()
        server.shutdown()
        server.server_close()
