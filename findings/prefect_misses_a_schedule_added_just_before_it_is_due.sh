#!/usr/bin/env bash
# A schedule that is added to a Prefect deployment shortly before it is due does not fire until the day after.
#
# Versions    prefect 3.9.1 (the same code in 3.8.8).
# Behaviour   Prefect's server plans runs in two loops: one every minute for all deployments, one every five seconds for
#             those updated within the last seconds. POST /deployments/ID/schedules, which the UI uses too, does not
#             count as an update of the deployment. Runs are planned from the present on, so a time that passes before
#             the next round of the slow loop is skipped without a word. PATCH /deployments/ID counts as an update.
# Guess       A new schedule is planned within seconds, or a time that has just passed is made up for.
# Here        The slow loop is set to ten minutes, so that its rounds do not decide the outcome.
# Output seen
#             20 s after a schedule was posted: 0 runs planned
#             20 s after its deployment was patched: runs planned
set -euo pipefail
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prefect==3.9.1
export PREFECT_HOME="$folder/home" PREFECT_SERVER_ANALYTICS_ENABLED=false
export PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS=600
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/prefect" server start --host 127.0.0.1 --port "$port" > "$folder/log" 2>&1 &
trap 'kill $!; wait $! || true; rm -rf "$folder"' EXIT
cat > "$folder/plan.py" <<'PYTHON'
import sys
import time

import httpx

with httpx.Client(base_url=sys.argv[1], timeout=60) as api:
    for _ in range(120):
        try:
            api.get("/health").raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(1)
    flow = api.post("/flows/", json={"name": "hello"}).json()["id"]
    body = {"name": "hello", "flow_id": flow, "entrypoint": "hello.py:hello"}
    deployment = api.post("/deployments/", json=body).json()["id"]
    time.sleep(15)  # the deployment is no longer new

    def planned():
        time.sleep(20)
        return len(api.post("/flow_runs/filter", json={}).json())

    schedule = [{"schedule": {"interval": 3600}, "active": True}]
    api.post(f"/deployments/{deployment}/schedules", json=schedule).raise_for_status()
    first = planned()
    api.patch(f"/deployments/{deployment}", json={"description": "patched"}).raise_for_status()
    second = planned()
print(f"20 s after a schedule was posted: {first} runs planned")
print(f"20 s after its deployment was patched: {'runs' if second else 'no runs'} planned")
sys.exit(not (first == 0 and second > 0))
PYTHON
"$folder/venv/bin/python" "$folder/plan.py" "http://127.0.0.1:$port/api" || { tail -n 30 "$folder/log" >&2; exit 1; }
