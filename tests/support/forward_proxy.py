"""An HTTP proxy that notes what it is asked for, and passes nothing on."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Variables that name proxies, in both cases.
PROXY_VARIABLES = [f(f"{kind}_PROXY") for kind in ("HTTP", "HTTPS", "ALL", "NO") for f in (str.upper, str.lower)]


@contextlib.contextmanager
def forward_proxy() -> Iterator[tuple[str, list[str]]]:
    """Run a proxy that answers 502 to everything; yield its address and what it is asked for: URLs, ``host:port``."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def refuse(self) -> None:
            asked.append(self.path)
            self.send_error(502)

        do_GET = do_POST = do_CONNECT = refuse

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
