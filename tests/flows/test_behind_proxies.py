"""A flow with a temporary server of its own, where the environment names proxies that cannot reach this machine."""

import os
import subprocess
import sys

from mlflow import MlflowClient

from tests.support.forward_proxy import PROXY_VARIABLES, forward_proxy
from tests.support.project import ROOT


def test_its_temporary_server_is_never_asked_through_a_proxy(tmp_path):
    store = f"sqlite:///{tmp_path}/mlflow.db"
    MlflowClient(store).search_experiments()
    kept = {k: v for k, v in os.environ.items() if k not in PROXY_VARIABLES and not k.startswith("PREFECT_")}
    own = {"GENRE_HOME": str(tmp_path / "workspace"), "MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(ROOT)}
    with forward_proxy() as (proxy, asked):
        # httpx needs a package of its own for SOCKS, and cannot read ::1/128
        proxies = {"HTTP_PROXY": proxy, "https_proxy": proxy, "ALL_PROXY": "socks5://127.0.0.1:9"}
        done = subprocess.run(
            [sys.executable, "-m", "flows.rollback"],
            cwd=tmp_path,
            env=kept | own | proxies | {"NO_PROXY": "::1/128,.corp.example"},
            capture_output=True,
            text=True,
            timeout=150,
        )
    assert "error: there is no champion of genre to roll back" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert [address for address in asked if "127.0.0.1" in address or "localhost" in address] == []
