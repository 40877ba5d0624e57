#!/usr/bin/env bash
# httpx takes a star anywhere in NO_PROXY for all hosts; urllib and requests do so only where it stands alone.
#
# Versions    httpx 0.28.1, requests 2.34.2, Python's urllib.
# Behaviour   With HTTP_PROXY set and NO_PROXY="localhost,*", httpx asks every host directly. urllib's
#             proxy_bypass_environment and requests' should_bypass_proxies still send other hosts through the proxy, since
#             the star is one entry of a list for them, which matches no name.
#             Connections to the proxies are made when the client is built: ALL_PROXY=socks5://... without the package
#             socksio raises ImportError there, even if only hosts in NO_PROXY are asked. A star in the list prevents it.
# Guess       NO_PROXY means the same to all three, and a SOCKS proxy matters once it is used.
# Use         A process whose httpx asks servers of this machine alone, and whose other libraries need the proxy, appends
#             a star to the list.
# Output seen
#             no star: httpx by proxy, urllib by proxy, requests by proxy
#             alone: httpx direct, urllib direct, requests direct
#             in a list: httpx direct, urllib by proxy, requests by proxy
#             SOCKS, localhost exempt: ImportError
#             SOCKS, star in the list: built
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet httpx==0.28.1 requests==2.34.2
cat > "$folder/proxies.py" <<'PYTHON'
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from urllib.request import proxy_bypass_environment

import httpx
from requests.utils import should_bypass_proxies

URL = "http://name.invalid/"


class Proxy(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", 0), Proxy)
Thread(target=server.serve_forever, daemon=True).start()
PROXY = f"http://127.0.0.1:{server.server_port}"


def set_proxies(**variables):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    os.environ.update(variables)


def is_direct_for_httpx():
    # only a proxy answers for a host that does not exist
    try:
        return not httpx.get(URL).is_success
    except httpx.ConnectError:
        return True


def describe():
    found = (is_direct_for_httpx(), bool(proxy_bypass_environment("name.invalid")), should_bypass_proxies(URL, None))
    names = ("httpx", "urllib", "requests")
    return ", ".join(f"{n} {'direct' if direct else 'by proxy'}" for n, direct in zip(names, found))


def build():
    try:
        httpx.Client().close()
    except ImportError:
        return "ImportError"
    return "built"


lines = []
set_proxies(HTTP_PROXY=PROXY, NO_PROXY="localhost")
lines.append(f"no star: {describe()}")
set_proxies(HTTP_PROXY=PROXY, NO_PROXY="*")
lines.append(f"alone: {describe()}")
set_proxies(HTTP_PROXY=PROXY, NO_PROXY="localhost,*")
lines.append(f"in a list: {describe()}")
set_proxies(ALL_PROXY="socks5://127.0.0.1:9", NO_PROXY="localhost")
lines.append(f"SOCKS, localhost exempt: {build()}")
set_proxies(ALL_PROXY="socks5://127.0.0.1:9", NO_PROXY="localhost,*")
lines.append(f"SOCKS, star in the list: {build()}")
print(*lines, sep="\n")
expected = [
    "no star: httpx by proxy, urllib by proxy, requests by proxy",
    "alone: httpx direct, urllib direct, requests direct",
    "in a list: httpx direct, urllib by proxy, requests by proxy",
    "SOCKS, localhost exempt: ImportError",
    "SOCKS, star in the list: built",
]
sys.exit(lines != expected)
PYTHON
"$folder/venv/bin/python" "$folder/proxies.py"
