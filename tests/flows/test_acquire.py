"""The flow `acquire` as a user runs it: real processes, Prefect server and MLflow store, and a local video server."""

import asyncio
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.logging import disable_run_logger

from flows import checks
from flows.acquire import acquire, enroll_segments, last_arguments
from flows.reports import coverage
from genre import datasets
from genre.acquisition.ledger import Ledger
from genre.acquisition.ontology import PAPER_GENRES
from genre.acquisition.segments import SegmentSelection
from genre.errors import DataError, UsageError, hide_secrets
from genre.files import write_json
from genre.workspace import Workspace
from tests.support import videos
from tests.support.project import ROOT

SECRET = "hush"
REGGAE = PAPER_GENRES["Reggae"]
TECHNO = PAPER_GENRES["Techno"]


@dataclass
class Place:
    """Folder with lists, a workspace and an MLflow store, and a server of the videos in the lists."""

    folder: Path
    server: videos.Videos
    api_url: str

    @property
    def source(self) -> str:
        return str(self.folder / "lists")

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {
            "GENRE_HOME": str(self.folder / "home"),
            "GENRE_COOKIES": str(self.folder / f"{SECRET}.txt"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder / 'mlflow.db'}",
            "PREFECT_API_URL": self.api_url,
            "PYTHONPATH": str(ROOT),
        }

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.folder / "home" / datasets.dataset_id("audioset", self.source) / "ledger.sqlite")

    def run(self, *command: str) -> str:
        """Run a Python module until it ends; return its output."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLproject runs `python`
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self.env | {"PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def newest_run(self, word: str) -> Run:
        """Return the newest MLflow run whose name contains `word`."""
        client = MlflowClient(self.env["MLFLOW_TRACKING_URI"])
        experiment = client.get_experiment_by_name(datasets.dataset_id("audioset", self.source))
        runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
        return next(run for run in runs if word in run.info.run_name)

    def flow_states(self) -> list[tuple[str, str]]:
        """Return the type and name of the state of every run of the flow, newest first."""
        query = {"flows": {"name": {"any_": ["acquire"]}}, "sort": "START_TIME_DESC"}
        runs = asyncio.run(_post(f"{self.api_url}/flow_runs/filter", query))
        return [(run["state_type"], run["state_name"]) for run in runs]


async def _post(url: str, body: dict) -> list[dict]:
    async with httpx.AsyncClient(timeout=30) as client:
        return (await client.post(url, json=body)).json()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("acquire")
    (folder / "lists").mkdir()
    (folder / "files").mkdir()
    (folder / f"{SECRET}.txt").write_text("# Netscape HTTP Cookie File\n")
    (folder / "ontology.json").write_text(json.dumps([{"id": REGGAE, "child_ids": ["/m/dub"]}]))
    (folder / "labels.csv").write_text(f"index,mid,display_name\n0,{REGGAE},Reggae\n1,{TECHNO},Techno\n")
    for name, numbers in (("balanced_train", range(16)), ("eval", range(16, 20))):
        mids = [("/m/dub" if n == 0 else REGGAE, TECHNO)[n % 2] for n in numbers]
        rows = [f'-video{n:05d}, 2.000, 12.000, "/m/04rlf,{mid}"\n' for n, mid in zip(numbers, mids, strict=True)]
        (folder / "lists" / f"{name}_segments.csv").write_text("".join(rows))
    song = videos.song(folder / "song.wav", seconds=14, sr=22050)
    (folder / "files" / "-video00000.wav").write_bytes(song)
    with videos.serving(song) as server:
        server.faults.update({"-video00003": "404", "-video00004": "429", "-video00006": "rate"})
        server.until["-video00004"] = 1
        yield Place(folder, server, prefect_server)


def all_parameters(place: Place) -> dict[str, str]:
    """Return a value of every parameter of the flow, each different from its default."""
    folder = place.folder
    return {
        "source": place.source,
        "genres": "Reggae,Techno",
        "descendants": "yes",
        "policy": "first",
        "per_genre": "10",
        "seed": "1",
        "split": "audioset",
        "labels": f"{folder}/labels.csv",
        "ontology": f"{folder}/ontology.json",
        "test_list": "none",
        "files": f"{folder}/files",
        "max_clips": "500",
        "max_hours": "1.0",
        "workers": "2",
        "interval_s": "0.01",
        "retry_s": "0.05",
        "rest_s": "2.0",
        "sr": "22050",
        "format": "wav",
        "timeout_s": "5.0",
        "url": place.server.url,
        "again": "gone",
    }


@pytest.fixture(scope="module")
def refused_output(place: Place) -> str:
    """Output of an acquisition with every parameter set, which gets some clips and is then refused by the server."""
    options = [word for pair in all_parameters(place).items() for word in ("-P", "=".join(pair))]
    return place.run("mlflow", "run", str(ROOT), "-e", "acquire", "--env-manager", "local", *options)


def check_coverage(place: Place, run: Run) -> set[str]:
    """Check a run's figures of the downloaded clips; return the digests of its data sets."""
    done = place.ledger.read_segments().query("status == 'done'")
    assert run.data.tags["clips_digest"] == coverage.digest_clip_ids(done["clip_id"])
    assert run.data.metrics["segments_done"] == len(done)
    for genre, n in place.ledger.done_by_genre().items():
        assert run.data.metrics[f"done/{genre}"] == n
    return {entry.dataset.digest for entry in run.inputs.dataset_inputs}


def test_a_refused_run_ends_as_completed_and_logs_the_end_of_the_break(place, refused_output):
    assert "20 segments wanted: 10 Reggae, 10 Techno" in refused_output
    assert "files: 1 adopted" in refused_output
    assert "no requests until" in refused_output
    assert place.flow_states()[0] == ("COMPLETED", "Resting")
    table = place.ledger.read_segments().set_index("ytid")
    assert table.loc["-video00000", "format"] == "adopted"
    assert table.loc["-video00006", ["status", "error", "attempts"]].tolist() == ["waiting", "rate_limit", 0]


def test_every_parameter_reaches_the_flow_and_the_clips_are_logged(place, refused_output):
    given = all_parameters(place)
    run = place.newest_run("acquire")
    declared = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["acquire"]["parameters"]
    assert not [name for name in declared if given[name] == declared[name]["default"]]
    assert dict(run.data.params) == {f"settings.{k}": hide_secrets(v) for k, v in given.items()}
    assert check_coverage(place, run) == {run.data.tags["clips_digest"]}
    assert "no requests until" in run.data.tags["ending"]
    assert SECRET not in refused_output + str(run.data.to_dictionary())


@pytest.mark.slow
def test_retrain_continues_the_acquisition_and_trains_on_its_clips(place, refused_output):
    del place.server.faults["-video00006"]
    requests_before = dict(place.server.asked)
    segments_before = place.ledger.read_segments()
    printed = place.run(
        *("flows.retrain", "--dataset", "audioset", "--source", place.source, "--split", "source"),
        *("--options", '{"max_clips": 0}', "--model", "logistic_regression"),
    )
    assert place.flow_states()[0] == ("COMPLETED", "Complete")
    assert "clips: 19 ok, 1 gone" in printed
    assert "logistic_regression" in printed
    for ytid in segments_before.loc[segments_before["status"] != "waiting", "ytid"]:
        assert place.server.asked[ytid] == requests_before.get(ytid, 0)
    run = place.newest_run("retrain")
    assert place.ledger.count_by_status() == {"waiting": 0, "done": 19, "gone": 1}
    assert run.data.metrics["clips_ok"] == 19
    assert run.data.metrics["share/Techno"] == 0.9
    assert run.data.tags["clips_digest"] in check_coverage(place, run)


def test_the_last_arguments_are_remembered_and_overridden(home):
    workspace = Workspace(datasets.dataset_id("audioset", ""))
    assert last_arguments("", {})["max_clips"] == 1000
    write_json(workspace.acquisition_path, {"genres": "Jazz,Techno", "max_clips": 5})
    arguments = last_arguments("", {"max_clips": 7})
    assert (arguments["genres"], arguments["max_clips"], arguments["source"]) == ("Jazz,Techno", 7, "")
    with pytest.raises(UsageError, match="unknown parameter 'max_clip'"):
        last_arguments("", {"max_clip": 7})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 3}, "must be 1 or 2"),
        ({"max_hours": 0.0}, "must be positive"),
        ({"split": "x"}, "choose from dealt"),
    ],
)
def test_a_wrong_value_is_refused_before_anything_is_written(home, given, message):
    defaults = {name: p.default for name, p in inspect.signature(acquire.fn).parameters.items()}
    with pytest.raises(UsageError, match=message):
        checks.check_acquire(defaults | given)
    assert not home.exists()


def test_the_error_about_a_missing_acquisition_names_the_command(home):
    with pytest.raises(DataError, match="-e acquire"):
        datasets.load_clips("audioset", "", home / "audioset", {})


def test_the_clips_table_has_downloaded_and_unavailable_clips_but_no_waiting_ones(home):
    workspace = Workspace("audioset")
    ledger = Ledger(workspace.ledger_path)
    ledger.enroll(videos.listed("a", "b", "c", "d", "e").assign(split="train"))
    with pytest.raises(DataError, match="none of the 0 segments"):
        datasets.load_clips("audioset", "", workspace.directory, {})
    for ytid, padded_s in (("a", 0), ("b", 2.5)):
        clip = {"path": f"000/{ytid}_5.flac", "sha256": 64 * ytid, "duration_s": 10.0, "padded_s": padded_s}
        ledger.update_segment(f"{ytid}_5", status="done", **clip)
    ledger.update_segment("c_5", status="gone", error="geo", message="not in your country")
    ledger.update_segment("d_5", error="http_429", message="too many")  # stays waiting
    table = datasets.load_clips("audioset", "", workspace.directory, {}).set_index("recording")
    assert list(table.index) == ["a", "b", "c"]
    assert table["status"].tolist() == ["pending", "pending", "geo"]
    assert table["end_s"].tolist() == [10, 7.5, 0]
    assert table.loc["a", "path"] == str(workspace.audio_dir / "000" / "a_5.flac")
    assert table.loc["c", "reason"] == "not in your country"
    assert set(table["split"]) == {"train"}
    assert list(table["genre"].cat.categories) == ["a", "b"]


@pytest.mark.parametrize(("again", "n_waiting"), [("none", 0), ("gone", 2)])
def test_segments_that_are_gone_are_asked_for_again_on_demand(home, tmp_path, again, n_waiting):
    workspace = Workspace("audioset")
    rows = [f'-video{n:05d}, 2.000, 12.000, "{REGGAE}"\n' for n in range(3)]
    (tmp_path / "eval_segments.csv").write_text("".join(rows))
    selection = SegmentSelection(genres=REGGAE)
    with disable_run_logger():
        enroll_segments.fn(workspace, str(tmp_path), selection, "none")
        ledger = Ledger(workspace.ledger_path)
        first, *others = ledger.read_segments()["clip_id"]
        ledger.update_segment(first, status="done")
        for clip_id in others:
            ledger.update_segment(clip_id, status="gone", error="gone")
        enroll_segments.fn(workspace, str(tmp_path), selection, again)
    assert ledger.count_by_status() == {"waiting": n_waiting, "done": 1, "gone": 2 - n_waiting}


def test_coverage_counts_each_genre_in_order():
    segments = pd.DataFrame(
        {
            "genre": ["b", "b", "b", "a"],
            "genre_order": [0, 0, 0, 1],
            "status": ["done", "gone", "waiting", "waiting"],
            "error": ["", "geo", "http_429", ""],
        }
    )
    table = coverage.coverage_table(segments).set_index("genre")
    assert list(table.index) == ["b", "a"]
    assert table.loc["b", ["wanted", "waiting", "done", "gone", "gone: geo"]].tolist() == [3, 1, 1, 1, 1]
    assert table.loc["b", "share"] == 0.5
    assert pd.isna(table.loc["a", "share"])


def test_the_digest_of_clips_does_not_depend_on_their_order():
    assert (
        coverage.digest_clip_ids(["a", "b"]) == coverage.digest_clip_ids(["b", "a"]) != coverage.digest_clip_ids(["a"])
    )
