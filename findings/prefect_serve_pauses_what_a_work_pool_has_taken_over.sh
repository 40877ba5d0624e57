#!/usr/bin/env bash
# `flow.serve` ends by pausing its deployment, also when that has been deployed to a work pool meanwhile.
#
# Versions    prefect 3.9.1.
# Behaviour   A process serves a deployment with a schedule. The same deployment is then deployed to a work pool, by its
#             name, so that workers run it. When the first process ends, it pauses the deployment by its id: the
#             workers' schedule stands still from then on. Nobody is told but the log of the process that ended.
# Guess       Deploying to the pool takes the deployment over: what the old process does at its end concerns it no more.
# Way round   Stop the serving process before `prefect deploy`; or `Runner(pause_on_shutdown=False)`, and at its end
#             pause only those of its deployments that have no work pool.
# Output seen
#             served: paused False, pool None
#             deployed to the pool: paused False, pool workers
#             served no more: paused True, pool workers
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prefect==3.9.1
cd "$folder"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export PREFECT_HOME=$folder/prefect PREFECT_API_URL=http://127.0.0.1:$port/api PREFECT_SERVER_ANALYTICS_ENABLED=false
cat > flows.py <<'PYTHON'
import sys
from pathlib import Path

from prefect import flow


@flow
def report():
    pass


if __name__ == "__main__":
    options = {"name": "weekly", "cron": "0 5 * * 1"}
    if sys.argv[1] == "serve":
        report.serve(**options)
    else:
        source = flow.from_source(str(Path.cwd()), "flows.py:report")
        source.deploy(work_pool_name="workers", print_next_steps=False, **options)
PYTHON
state() {
  python3 - <<PYTHON
import json, urllib.request
with urllib.request.urlopen("$PREFECT_API_URL/deployments/name/report/weekly") as answer:
    found = json.load(answer)
print(f"$1: paused {found['paused']}, pool {found['work_pool_name']}")
PYTHON
}
venv/bin/prefect server start --host 127.0.0.1 --port "$port" > server.log 2>&1 &
until python3 -c "import urllib.request; urllib.request.urlopen('$PREFECT_API_URL/health')" 2> /dev/null; do sleep 1; done
venv/bin/prefect work-pool create workers --type process > /dev/null
venv/bin/python flows.py serve > serve.log 2>&1 &
serving=$!
until state served > seen 2> /dev/null; do sleep 1; done
venv/bin/python flows.py deploy > /dev/null
state "deployed to the pool" >> seen
sleep 5
kill -TERM "$serving"
wait "$serving" || true
state "served no more" >> seen
cat seen
diff seen - <<'SEEN'
served: paused False, pool None
deployed to the pool: paused False, pool workers
served no more: paused True, pool workers
SEEN
