"""Deployments, schedules and workers: the files, and the same on real servers with real workers."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import psutil
import pytest
import requests
import yaml
from mlflow import MlflowClient
from prefect.automations import Automation
from prefect.flows import load_flow_from_entrypoint

from flows.schedule import RUN_LIMITS, build_deployment, read_definitions
from genre.errors import UsageError
from tests.support.project import ROOT
from tests.support.servers import free_port, wait_until_up
from tests.support.sounds import write_music

DEFINITIONS = {definition["name"]: definition for definition in read_definitions()}
AUTOMATIONS = yaml.safe_load((ROOT / "automations.yaml").read_text())["automations"]
DOCS = (ROOT / "docs" / "production.md").read_text()

QUICK = {"dataset": "folder", "model": "logistic_regression", "folds": 0}


def test_the_deployments_are_those_of_the_main_flows():
    flows = {definition["entrypoint"].split(":")[1] for definition in DEFINITIONS.values()}
    assert flows == {"acquire", "retrain", "build", "train", "promote", "tag"}
    assert {name for name, definition in DEFINITIONS.items() if "schedules" in definition} == {"nightly", "weekly"}


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_flow_of_a_deployment_exists_and_takes_its_parameters(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    definition = DEFINITIONS[name]
    flow = load_flow_from_entrypoint(definition["entrypoint"])
    parameters = definition.get("parameters", {})
    assert flow.validate_parameters(parameters).items() >= parameters.items()
    required = [p for p in flow.parameters.required if p not in parameters]
    assert not required or name == "tag"


@pytest.mark.parametrize("name", ["nightly", "weekly"])
def test_a_schedule_has_a_time_zone_that_exists(name: str):
    (schedule,) = DEFINITIONS[name]["schedules"]
    assert ZoneInfo(schedule["timezone"])


def test_trainings_share_a_pool_that_runs_one_at_a_time():
    on_gpu = {name for name, definition in DEFINITIONS.items() if definition["work_pool"]["name"] == "gpu"}
    assert on_gpu == {"weekly", "train"} and RUN_LIMITS["gpu"] == 1
    assert {definition["work_pool"]["name"] for definition in DEFINITIONS.values()} == set(RUN_LIMITS)
    for name in ("nightly", "weekly", "train"):
        assert DEFINITIONS[name]["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}


def test_the_documented_pools_are_those_of_the_deployments():
    assert set(re.findall(r"prefect work-pool create (\w+)", DOCS)) == set(RUN_LIMITS)
    limits = dict(re.findall(r"prefect work-pool set-concurrency-limit (\w+) (\d+)", DOCS))
    assert limits == {pool: str(limit) for pool, limit in RUN_LIMITS.items()}


def test_served_deployments_are_those_of_the_file(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    weekly = build_deployment(DEFINITIONS["weekly"])
    assert (weekly.flow_name, weekly.name, weekly.entrypoint) == ("retrain", "weekly", "flows/retrain.py:retrain")
    assert weekly.parameters == DEFINITIONS["weekly"]["parameters"]
    (schedule,) = weekly.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 5 * * 1", "Europe/Berlin")
    assert weekly.concurrency_limit == 1 and str(weekly.concurrency_options.collision_strategy.value) == "ENQUEUE"
    with pytest.raises(UsageError, match="cron schedules only"):
        build_deployment(DEFINITIONS["weekly"] | {"schedules": [{"interval": 60}]})


def test_serving_without_a_server_is_refused_with_advice():
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    command = [sys.executable, "-m", "flows.schedule"]
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(command, cwd=ROOT, env=env | {"PREFECT_HOME": home}, capture_output=True, text=True)
    assert done.returncode == 1 and "PREFECT_API_URL" in done.stderr and "Traceback" not in done.stderr


def test_the_automations_are_accepted_by_prefect():
    silent, crashed = (Automation.model_validate(automation) for automation in AUTOMATIONS)
    assert silent.trigger.within.total_seconds() >= 3 * 180  # Prefect's heartbeat is every three minutes
    assert "prefect.flow-run.Running" in silent.trigger.after
    assert crashed.actions[0].state.value == "SCHEDULED"
    (example,) = re.findall(r"```yaml\n(.*?)```", DOCS, re.DOTALL)
    for automation in yaml.safe_load(example)["automations"]:
        assert Automation.model_validate(automation).actions


@dataclass
class Team:
    """A Prefect server, a folder for data, and workers that are started and killed."""

    folder: Path
    port: int = field(default_factory=free_port)

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GENRE_"))}
        return kept | {
            "PREFECT_API_URL": self.api,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            "GENRE_HOME": str(self.folder / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.env["MLFLOW_TRACKING_URI"])

    @contextmanager
    def running(self, name: str, *words: str, cwd: Path = ROOT) -> Iterator[psutil.Process]:
        """Run a command of Prefect that does not end; kill it and all that it started at the end."""
        with (self.folder / f"{name}.log").open("w") as log:
            command = [sys.executable, "-m", "prefect", *words]
            process = subprocess.Popen(command, cwd=cwd, env=self.env, stdout=log, stderr=log)
            try:
                if words[0] == "server":
                    wait_until_up(f"{self.api}/health", process, self.folder / f"{name}.log")
                yield psutil.Process(process.pid)
            finally:
                kill(process.pid)
                process.wait(30)

    def prefect(self, *words: str) -> str:
        """Run a command of Prefect to its end and return its output."""
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def post(self, path: str, **body: Any) -> Any:
        answer = requests.post(f"{self.api}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def trigger(self, deployment: str, **parameters: Any) -> str:
        """Start a run of a deployment through the API and return its id."""
        found = requests.get(f"{self.api}/deployments/name/{deployment}", timeout=30).json()
        return self.post(f"deployments/{found['id']}/create_flow_run", parameters=parameters)["id"]

    def state(self, run: str) -> dict[str, Any]:
        return requests.get(f"{self.api}/flow_runs/{run}", timeout=30).json()["state"]

    def wait(self, run: str, *types: str, timeout_s: float = 300) -> dict[str, Any]:
        """Wait until the state of a run has one of these types, and return it."""
        wait_until(lambda: self.state(run)["type"] in types, timeout_s, lambda: f"{self.state(run)} in {self.logs()}")
        return self.state(run)

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-4000:]}" for log in self.folder.glob("worker*.log"))

    def times(self, run: str) -> tuple[pd.Timestamp, pd.Timestamp]:
        found = requests.get(f"{self.api}/flow_runs/{run}", timeout=30).json()
        return pd.Timestamp(found["start_time"]), pd.Timestamp(found["end_time"])


def kill(pid: int) -> None:
    """Kill a process and all its descendants."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def wait_until(reached: Callable[[], bool], timeout_s: float, explain: Callable[[], str]) -> None:
    """Wait for a condition; fail with an explanation if it is not met in time."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.5)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Start a server with the documented pools and deployments, and automations that act sooner; no worker yet."""
    team = Team(tmp_path_factory.mktemp("team"))
    (team.folder / "prefect").mkdir()
    with team.running("server", "server", "start", "--host", "127.0.0.1", "--port", str(team.port)):
        for command in re.findall(r"^prefect (work-pool .*)$", DOCS, re.MULTILINE):
            team.prefect(*command.split())
        team.prefect("deploy", "--all")
        quicker = [a | {"trigger": a["trigger"] | {"within": 75}} for a in AUTOMATIONS[:1]] + AUTOMATIONS[1:]
        (team.folder / "automations.yaml").write_text(yaml.safe_dump({"automations": quicker}))
        team.prefect("automation", "create", "--from-file", str(team.folder / "automations.yaml"))
        yield team


@pytest.mark.slow
def test_a_retraining_whose_worker_is_killed_is_finished_by_the_next(team: Team):
    music = write_music(team.folder / "music", genres={"low": 110.0, "high": 880.0}, tracks=26)
    slow = {"model": "catboost", "params": '{"iterations": 20000, "learning_rate": 0.001}', "folds": 0}
    with team.running("worker-1", "worker", "start", "--pool", "gpu") as worker:
        run = team.trigger("retrain/weekly", dataset="folder", source=str(music), **slow)
        # each model is trained in a process of its own
        wait_until(lambda: any("genre.training.process" in c for c in commands(worker)), 200, team.logs)
        kill(worker.pid)
    assert team.state(run)["type"] == "RUNNING"
    assert not list(team.folder.glob("home/*/trainings/*/result.json"))
    with team.running("worker-2", "worker", "start", "--pool", "gpu"):
        wait_until(lambda: team.state(run)["type"] != "RUNNING", 200, team.logs)
        state = team.wait(run, "COMPLETED", "FAILED")
    assert state["name"] == "Promoted", state
    assert team.client.get_model_version_by_alias("genre", "champion").version == 1
    experiments = [e.experiment_id for e in team.client.search_experiments()]
    runs = {(r.info.run_name, r.info.status) for r in team.client.search_runs(experiments)}
    assert not {run for run in runs if run[1] == "RUNNING"}, runs
    page = team.post("artifacts/latest/filter", artifacts={"key": {"any_": ["retraining"]}})[0]["data"]
    assert "genre: Promoted" in page and "| before | none |" in page and "catboost" in page


def commands(worker: psutil.Process) -> list[list[str]]:
    """Return the command lines of all descendants of a process."""
    lines = []
    for process in worker.children(recursive=True):
        try:
            lines.append(process.cmdline())
        except psutil.Error:
            continue
    return lines


@pytest.mark.slow
def test_what_is_deployed_to_a_pool_is_left_to_the_workers(tmp_path: Path):
    alone = Team(tmp_path)
    (tmp_path / "prefect").mkdir()

    def find(name: str) -> dict[str, Any]:
        return requests.get(f"{alone.api}/deployments/name/{name}", timeout=30).json()

    with alone.running("server", "server", "start", "--host", "127.0.0.1", "--port", str(alone.port)):
        command = [sys.executable, "-m", "flows.schedule", "weekly", "nightly"]
        with (tmp_path / "schedule.log").open("w") as log:
            serving = subprocess.Popen(command, cwd=ROOT, env=alone.env, stdout=log, stderr=log)
        try:
            told = (tmp_path / "schedule.log").read_text
            wait_until(lambda: "serving acquire/nightly" in told(), 120, told)
            alone.prefect("work-pool", "create", "gpu", "--type", "process")
            alone.prefect("deploy", "--name", "weekly")
            assert serving.wait(60) == 1, told()
        finally:
            serving.kill()
        assert "error: retrain/weekly is deployed to the work pool gpu; start a worker for it" in told()
        assert "Traceback" not in told()
        states = {name: find(name)["paused"] for name in ("retrain/weekly", "acquire/nightly")}
        assert states == {"retrain/weekly": False, "acquire/nightly": True}


@pytest.mark.slow
def test_three_trainings_started_at_once_run_one_after_the_other(team: Team):
    music = write_music(team.folder / "three", genres={"low": 110.0, "high": 880.0}, tracks=6)
    parameters = QUICK | {"source": str(music)}
    with team.running("worker-3", "worker", "start", "--pool", "gpu"):
        runs = [team.trigger("retrain/weekly", **parameters, registry_name="three") for _ in range(2)]
        runs.append(team.trigger("train/train", **parameters))
        for run in runs:
            team.wait(run, "COMPLETED", "FAILED", "CRASHED")
    times = sorted(team.times(run) for run in runs)
    assert all(before[1] <= after[0] for before, after in pairwise(times)), times
    assert {team.state(run)["type"] for run in runs} <= {"COMPLETED", "FAILED"}


@pytest.mark.slow
def test_a_schedule_that_is_due_within_two_minutes_fires(team: Team):
    """Prefect looks for new schedules once a minute, and does not make up for one that was due before."""
    found = requests.get(f"{team.api}/deployments/name/build/build", timeout=30).json()
    music = write_music(team.folder / "scheduled", genres={"low": 110.0, "high": 880.0}, tracks=3)
    due = pd.Timestamp.now(ZoneInfo("Europe/Berlin")).floor("min") + pd.Timedelta(minutes=2)
    schedule = {"cron": f"{due.minute} {due.hour} * * *", "timezone": "Europe/Berlin"}
    parameters = {"dataset": "folder", "source": str(music), "n_jobs": 1}
    body = [{"schedule": schedule, "active": True, "parameters": parameters}]
    requests.post(f"{team.api}/deployments/{found['id']}/schedules", json=body, timeout=30).raise_for_status()
    with team.running("worker-4", "worker", "start", "--pool", "cpu"):
        query = {"deployments": {"id": {"any_": [found["id"]]}}, "sort": "EXPECTED_START_TIME_ASC"}
        wait_until(lambda: bool(team.post("flow_runs/filter", **query)), 120, team.logs)
        run = team.post("flow_runs/filter", **query)[0]
        team.wait(run["id"], "COMPLETED", "FAILED", timeout_s=300)
    assert team.state(run["id"])["type"] == "COMPLETED" and run["auto_scheduled"]
    assert abs(team.times(run["id"])[0] - due) < pd.Timedelta(seconds=60)


#: Ten retrainings in one process, each on a larger folder except the sixth; prints a line of facts after each.
TEN = """
import json, os, sys, psutil
from pathlib import Path
import soundfile as sf
from tests.support.sounds import tone
from flows.retrain import retrain
music = Path(sys.argv[1])
for n in range(10):
    for genre, hz in {"low": 110.0, "high": 880.0}.items() if n != 5 else ():
        (music / genre).mkdir(parents=True, exist_ok=True)
        for k in range(26 if n == 0 else 1):
            i = len(list((music / genre).iterdir()))
            sf.write(music / genre / f"{i}.wav", tone(10.0, hz=hz * (1 + 0.01 * i), seed=i), 22050)
    state = retrain("folder", str(music), model="logistic_regression", folds=0, n_jobs=1, return_state=True)
    this = psutil.Process()
    facts = {"outcome": state.name, "files": this.num_fds(), "mb": this.memory_info().rss / 1e6,
             "children": len(this.children(recursive=True)), "temporary": os.listdir(os.environ["TMPDIR"])}
    print("FACTS", json.dumps(facts), flush=True)
"""


@pytest.mark.slow
def test_ten_retrainings_of_a_growing_folder(tmp_path: Path, prefect_server: str):
    (tmp_path / "tmp").mkdir()
    team = Team(tmp_path)
    env = team.env | {"PREFECT_API_URL": prefect_server, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", TEN, str(tmp_path / "music")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    facts = pd.DataFrame(json.loads(line[6:]) for line in done.stdout.splitlines() if line.startswith("FACTS"))
    print(facts)
    # each new ensemble is a version; without a certain gain the first stays champion
    assert list(facts["outcome"]) == ["Promoted", *["Refused"] * 4, "Unchanged", *["Refused"] * 4]
    versions = {int(v.version): v for v in team.client.search_model_versions("name = 'genre'")}
    assert sorted(versions) == list(range(1, 10))
    aliases = {k: int(v) for k, v in team.client.get_registered_model("genre").aliases.items()}
    assert aliases == {"champion": 1, "challenger": 9}
    assert all(versions[n].tags["refused_against"] == "1" and versions[n].tags["refused"] for n in range(2, 10))
    statuses = {
        r.info.status for e in team.client.search_experiments() for r in team.client.search_runs([e.experiment_id])
    }
    assert statuses == {"FINISHED"}
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    later = facts.iloc[2:]  # by then everything is loaded
    assert later["files"].max() - later["files"].iloc[0] <= 5, facts
    assert later["mb"].iloc[-1] < 1.25 * later["mb"].iloc[0], facts
    assert not facts["children"].any(), facts
    assert len(facts["temporary"].iloc[-1]) <= len(facts["temporary"].iloc[2]), facts
    assert not list(tmp_path.rglob("*.tmp"))
