#!/usr/bin/env bash
# `mlflow ui` and `mlflow server` whose port is in use end with exit status 0.
#
# Versions    mlflow 3.17.2 with the uvicorn 0.54.0 that serves its pages.
# Behaviour   Another program listens on the port. Both commands create their database, log "[Errno 98] Address already
#             in use" on the error channel, and end within seconds with status 0.
# Guess       uvicorn, which MLflow starts, ends with status 3 then, and a command that served nothing passes that on: a
#             supervisor that restarts on failure, or `mlflow ui && ...`, would notice.
# Way round   Ask the port before the start, or ask the server's /health after it; do not trust the status.
# Output seen
#             uvicorn: status 3, address in use
#             mlflow ui: status 0, address in use
#             mlflow server: status 0, address in use
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "$listener" 2> /dev/null || true; rm -rf "$folder"' EXIT
listener=
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow==3.17.2 uvicorn==0.54.0
cd "$folder"
cat > listener.py <<'PYTHON'
import socket
import time
from pathlib import Path

with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    Path("port.part").write_text(str(listener.getsockname()[1]))
    Path("port.part").rename("port")
    time.sleep(600)
PYTHON
echo 'async def app(scope, receive, send): pass' > empty.py
venv/bin/python listener.py &
listener=$!
until [ -e port ]; do sleep 0.1; done
store=(--port "$(cat port)" --backend-store-uri sqlite:///mlflow.db)

try() {
  local status=0
  timeout 300 "${@:2}" > log 2>&1 || status=$?
  echo "$1: status $status, $(grep -qi 'address already in use' log && echo address in use || echo no message)"
}

{
  try uvicorn venv/bin/uvicorn empty:app --port "$(cat port)"
  try "mlflow ui" venv/bin/mlflow ui "${store[@]}"
  try "mlflow server" venv/bin/mlflow server "${store[@]}"
} | tee seen
diff seen - <<'SEEN'
uvicorn: status 3, address in use
mlflow ui: status 0, address in use
mlflow server: status 0, address in use
SEEN
