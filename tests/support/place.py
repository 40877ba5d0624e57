"""A workspace and an MLflow store in a folder, and flows run in them."""

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
    """A workspace and an MLflow store in a folder."""

    folder: Path
    api_url: str

    @property
    def env(self) -> dict[str, str]:
        """Environment of the flows."""
        uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        variables = {
            "GENRE_HOME": str(self.folder / "home"),
            "MLFLOW_TRACKING_URI": uri,
            "PREFECT_API_URL": self.api_url,
            "PYTHONPATH": str(ROOT),
        }
        return os.environ | variables

    @property
    def client(self) -> MlflowClient:
        """Client of the MLflow store."""
        return MlflowClient(self.env["MLFLOW_TRACKING_URI"])

    def start(self, flow: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a flow in a process group of its own."""
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
        """Run a flow to its end; return its output."""
        process = self.start(flow, *arguments)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
        return output

    def runs(self) -> list[Run]:
        """Return the runs of all experiments."""
        experiments = [e.experiment_id for e in self.client.search_experiments()]
        return list(self.client.search_runs(experiments))

    def alias(self, alias: str, name: str = "genre") -> int:
        """Return the version that an alias of a registered model points to."""
        return int(self.client.get_model_version_by_alias(name, alias).version)

    def versions(self, name: str = "genre") -> int:
        """Count the versions of a registered model."""
        return len(self.client.search_model_versions(f"name = '{name}'"))

    def trainings(self) -> dict[str, float]:
        """Return the end time of each finished training, by folder name."""
        return {p.parent.name: p.stat().st_mtime for p in self.folder.glob("home/*/trainings/*/result.json")}
