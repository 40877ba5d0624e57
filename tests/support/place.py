"""A workspace and an MLflow store of their own, and flows run in them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support.project import ROOT


@dataclass
class Place:
    """A workspace and an MLflow store of their own."""

    folder: Path
    api_url: str

    @property
    def env(self) -> dict[str, str]:
        uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        mine = {"GENRE_HOME": str(self.folder / "home"), "MLFLOW_TRACKING_URI": uri, "PREFECT_API_URL": self.api_url}
        return os.environ | mine | {"PYTHONPATH": str(ROOT)}

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.env["MLFLOW_TRACKING_URI"])

    def start(self, flow: str, *arguments: str) -> subprocess.Popen[str]:
        """Begin a flow, in a process group of its own."""
        command = [sys.executable, "-m", f"flows.{flow}", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, flow: str, *arguments: str) -> str:
        """Run a flow to its end; returns what it printed."""
        output, _ = (process := self.start(flow, *arguments)).communicate(timeout=400)
        assert process.returncode == 0, output
        return output

    def runs(self) -> list[Run]:
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        return list(self.client.search_runs(experiments))

    def alias(self, alias: str, name: str = "genre") -> int:
        return int(self.client.get_model_version_by_alias(name, alias).version)

    def versions(self, name: str = "genre") -> int:
        return len(self.client.search_model_versions(f"name = '{name}'"))

    def trainings(self) -> dict[str, float]:
        """When each finished training ended, by folder name."""
        return {p.parent.name: p.stat().st_mtime for p in self.folder.glob("home/*/trainings/*/result.json")}
