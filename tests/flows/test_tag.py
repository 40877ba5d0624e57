"""Flow ``tag`` as a user runs it: a real registry, real processes, real files, kills, a cluster, tags and back."""

import hashlib
import inspect
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile as sf
from mlflow import MlflowClient

from flows import tag
from flows.tag import TagOutcome, TagStatus
from genre import models
from genre.config import AudioConfig
from genre.ensemble import Ensemble
from genre.errors import GenreError, UsageError
from genre.inputs.features import extract_features
from genre.library import answers, tags
from genre.library.answers import PredictionStore
from genre.library.undo import UndoFile
from genre.workers import pool
from tests.support.project import ROOT
from tests.support.sounds import tone
from tracking import aliases, packaging, registry

GENRES = ["high", "low"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an MLflow store, whose registered model ``genre`` has a champion that tells high from low."""
    folder, config, member = tmp_path_factory.mktemp("store"), AudioConfig(), "logistic_regression"
    X = np.stack(
        [extract_features(tone(10, hz=hz * (1 + n / 40), seed=n), config) for hz in (880, 110) for n in range(6)]
    )
    y = np.repeat([0, 1], 6)
    data = models.TrainingData(GENRES, X, y, np.arange(12).astype(str), X, y)
    models.save_model(member, models.train_model(member, data, {}, 0, folder / "m"), folder / "t" / "model")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = MlflowClient()
    client.create_experiment("library", artifact_location=(folder / "artifacts").as_uri())
    run = client.create_run(client.create_experiment("e", artifact_location=(folder / "artifacts").as_uri()))
    spec = Ensemble(GENRES, config, (member,), "geometric", 0.7)
    uri = packaging.log_model(run.info.run_id, spec, {member: folder / "t"}, {})
    aliases.promote_version("genre", registry.register_version("genre", uri, {}, ""), None)
    mlflow.artifacts.download_artifacts("models:/genre@champion", dst_path=str(folder / "downloaded"))
    mlflow.set_tracking_uri(before)
    return folder


@pytest.fixture(scope="module")
def model_dir(store: Path) -> Path:
    """The champion, downloaded."""
    return store / "downloaded"


@dataclass
class Place:
    """A user's folder: music, a workspace, the store."""

    folder: Path
    store: Path
    api_url: str

    @property
    def music(self) -> Path:
        return self.folder / "my music"

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.store}/mlflow.db")

    def start(self, **parameters: object) -> subprocess.Popen[str]:
        """Begin the flow, in a process group of its own."""
        own = {
            "GENRE_HOME": str(self.folder / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.store}/mlflow.db",
            "PREFECT_API_URL": self.api_url,
        }
        given = [word for k, v in parameters.items() for word in (f"--{k.replace('_', '-')}", str(v))]
        command = [sys.executable, "-m", "flows.tag", *given]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=ROOT, env=os.environ | own, stdout=pipe, stderr=subprocess.STDOUT, text=True, process_group=0
        )

    def run(self, **parameters: object) -> str:
        """Run the flow to its end; returns what it printed."""
        said, _ = (process := self.start(**parameters)).communicate(timeout=300)
        assert process.returncode == 0, said
        return said

    def table(self) -> pd.DataFrame:
        path = self.folder / "home" / "library" / "tags.csv"
        return pd.read_csv(path).assign(path=lambda t: [Path(p).name for p in t["path"]]).set_index("path")

    def states(self) -> dict[str, tuple[str, int, int]]:
        """Hash, time and mode of every file of the music."""
        files = sorted(path for path in self.music.rglob("*") if path.is_file())
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, path.stat().st_mode)
            for path in files
        }

    def metrics(self) -> dict[str, float]:
        experiment = self.client.get_experiment_by_name("library")
        return self.client.search_runs([experiment.experiment_id])[0].data.metrics


@pytest.fixture
def place(tmp_path: Path, store: Path, prefect_server: str) -> Place:
    place = Place(tmp_path, store, prefect_server)
    place.music.mkdir()
    return place


def fill(folder: Path) -> None:
    """Files of several formats, hidden ones and others, a link, one without tags, bad ones."""
    (folder / "albums" / "one").mkdir(parents=True)
    for n, suffix in enumerate(("mp3", "wav", "flac", "ogg", "aiff")):
        for hz, name in ((900, "high"), (112, "low")):
            sf.write(folder / "albums" / "one" / f"{name} {n}.{suffix}", tone(5, hz=hz, seed=n), 22050)
    sf.write(folder / "no tags.au", tone(5, hz=900), 22050)
    sf.write(folder / "silent.wav", np.zeros(110_250), 22050)
    sf.write(folder / "unsure.wav", (tone(5, hz=900) + tone(5, hz=110)) / 2, 22050)
    (folder / "text.mp3").write_text("no music")
    (folder / ".hidden.wav").write_bytes((folder / "unsure.wav").read_bytes())
    (folder / "notes.txt").write_text("no audio")
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes((folder / "albums/one/low 1.wav").read_bytes())
    (folder / "link.mp3").symlink_to(folder / "albums" / "one" / "high 0.mp3")


def test_a_library_is_judged_tagged_and_had_back(place):
    fill(place.music)
    states = place.states()
    said = place.run(source=place.music, write_tags="true")
    assert "No file was touched" in said and place.states() == states
    assert "11 would be written, 1 refused, 4 without a genre" in said
    table = place.table()
    assert list(table) == ["genre", "confidence", *GENRES, "error", "message", "model_version", "tag"]
    assert len(table) == 16
    sure = table[table["tag"] == "would be written"]
    assert len(sure) == 11, table[["genre", "tag", "message"]].to_string()
    assert all(genre == name.split()[0] for name, genre in sure["genre"].items() if name[:2] in ("hi", "lo"))
    assert table.loc[r"caf\xe9.wav", "genre"] == "low"
    assert table.loc["no tags.au", "tag"].startswith("refused: ") and "format" in table.loc["no tags.au", "tag"]
    assert table["error"].dropna().index.tolist() == ["silent.wav", "text.mp3"]
    assert (table.loc[table["error"].isna(), GENRES].sum(axis=1).round(6) == 1).all()
    assert set(table["model_version"]) == {"genre/1"}

    command = next(line for line in said.splitlines() if line.startswith("mlflow run"))
    assert command.endswith("-P write_tags=true -P dry_run=false") and f"'source={place.music}'" in command
    said = place.run(source=place.music, write_tags="true", dry_run="false")
    assert "0 are to be asked about" in said and "10 files were tagged" in said
    assert all(f"{n}, " in said for n in ("10 written", "1 refused", "1 there already")) and "4 without a genre" in said
    written = place.table()["tag"] == "written"
    assert written.sum() == 10 and place.table().loc["link.mp3", "tag"] == "there already"
    assert tags.read_genre(place.music / "albums/one/low 2.flac") == "low"
    assert (place.music / "link.mp3").is_symlink()
    changed = {path for path, state in place.states().items() if state != states[path]}
    assert len(changed) == 11  # one of them by two names
    metrics = place.metrics()
    assert metrics["files"] == 16 and metrics["errors"] == 2 and metrics["tags_written"] == 10
    told = [path.read_bytes() for path in place.store.rglob("*") if path.is_file()]
    assert any(b"my music" in content for content in told)  # as it was typed
    assert not any(b"no tags.au" in content for content in told)

    (record,) = (place.folder / "home" / "library" / "undo").iterdir()
    assert "10 restored, 0 as before, 0 refused" in place.run(undo=record)
    assert place.states() == states

    for path in place.music.rglob("*.*"):
        path.chmod(0o444)
    said = place.run(source=place.music, write_tags="true", dry_run="false", n_jobs=1)
    assert "12 refused, 4 without a genre" in said and "No file was tagged." in said


def library(folder: Path, n: int) -> None:
    for k in range(n):
        sf.write(folder / f"{k:02d}.wav", tone(2, hz=900 if k % 2 else 110, seed=k), 22050)


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def n_answers(path: Path) -> int:
    if not path.exists():
        return 0
    with closing(PredictionStore(path)) as known:
        return known._db.execute("SELECT count(*) FROM answers").fetchone()[0]


def test_killed_half_way_it_goes_on_and_asks_nothing_twice(place):
    library(place.music, 60)
    process, path = place.start(source=place.music, n_jobs=1), place.folder / "home" / "library" / "answers.sqlite"
    assert until(lambda: n_answers(path) >= 8, 120)
    asking = [
        p for p in psutil.Process(process.pid).children(recursive=True) if "serving/isolated/library.py" in p.cmdline()
    ]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert asking and until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in asking))
    done = n_answers(path)
    assert 8 <= done < 60
    with closing(PredictionStore(path)) as known:
        first = next(name for (name,) in known._db.execute("SELECT path FROM answers ORDER BY path")).decode()
    sf.write(first, tone(2, hz=450), 22050)  # another file now
    out = place.folder / "new" / "tags.parquet"
    assert f"{61 - done} are to be asked about" in place.run(source=place.music, out=out, n_jobs=1)
    table = pd.read_parquet(out)
    again = table["path"] == first
    assert table["genre"][~again].tolist() == [["low", "high"][int(Path(p).stem) % 2] for p in table["path"][~again]]
    assert again.sum() == 1 and table["high"][again].item() not in table["high"][~again].tolist()


def test_processes_and_a_cluster_answer_alike(model_dir, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    library(tmp_path, 20)
    files = answers.list_library(tmp_path)

    def asked(**where: object) -> list[dict]:
        return sorted(
            (a for _, said in answers.predict_files(files, model_dir, **where) for a in said), key=lambda a: a["path"]
        )

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        there = asked(dask=cluster.scheduler_address)
    assert there == asked(n_jobs=2)
    assert [a["path"] for a in there] == files["path"].tolist()
    assert [a["genre"] for a in there] == ["low", "high"] * 10


#: What the code of a model may do on a file.
POISON = """
import mlflow.pyfunc, os
predict = mlflow.pyfunc.PyFuncModel.predict
def fragile(self, data, *arguments, **named):
    if data["audio"][0].startswith("cG9pc29u"):
        os.kill(os.getpid(), 11)
    return predict(self, data, *arguments, **named)
mlflow.pyfunc.PyFuncModel.predict = fragile
"""


def test_a_file_that_kills_costs_only_itself(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_MAX_ATTEMPTS", 1)
    model = shutil.copytree(model_dir, tmp_path / "model")
    (model / "code" / "genre" / "__init__.py").write_text(POISON)
    library(tmp_path, 3)
    (tmp_path / "01.wav").write_bytes(b"poison")
    said = {
        Path(a["path"]).name: a
        for _, part in answers.predict_files(answers.list_library(tmp_path), model, n_jobs=1)
        for a in part
    }
    death = "the worker process that read it was killed by signal 11"
    assert said["01.wav"]["error"] == {"code": "crashed", "message": death}
    assert [said[n]["genre"] for n in ("00.wav", "02.wav")] == ["low", "low"]


def test_a_model_that_cannot_be_loaded_is_a_sentence(tmp_path):
    library(tmp_path, 1)
    with pytest.raises(GenreError, match="the model cannot be loaded"):
        list(answers.predict_files(answers.list_library(tmp_path), tmp_path, n_jobs=1))


@pytest.mark.parametrize(
    ("before", "settings", "outcome", "cell"),
    [
        ("", {}, TagOutcome(TagStatus.WOULD_BE_WRITTEN), "would be written"),
        ("", {"dry_run": False}, TagOutcome(TagStatus.WRITTEN), "written"),
        ("low", {}, TagOutcome(TagStatus.THERE_ALREADY), "there already"),
        ("Jazz", {"dry_run": False}, TagOutcome(TagStatus.KEPT, "Jazz"), "kept: Jazz"),
        ("a: b", {}, TagOutcome(TagStatus.KEPT, "a: b"), "kept: a: b"),
        ("Jazz", {"overwrite": True}, TagOutcome(TagStatus.WOULD_REPLACE, "Jazz"), "would replace: Jazz"),
    ],
)
def test_the_outcome_of_a_file_is_a_value_and_a_cell_of_the_table(tmp_path, before, settings, outcome, cell):
    path, record = tmp_path / "a.flac", UndoFile(tmp_path / "undo.jsonl")
    sf.write(path, tone(2, hz=110), 22050)
    if before:
        tags.write_genre(path, before, record)
    found = tag.tag_file(path, "low", {"dry_run": True, "overwrite": False} | settings, record)
    assert found == outcome and str(found) == tag._tag_cell(found) == cell
    assert tag._tag_cell(None) is None


def test_a_file_that_is_refused_is_counted_so_whatever_the_reason(tmp_path):
    (tmp_path / "text.flac").write_text("no music")
    refused = tag.tag_file(tmp_path / "text.flac", "low", {}, UndoFile(tmp_path / "undo.jsonl"))
    assert refused.status is TagStatus.REFUSED and str(refused).startswith("refused: ")
    outcomes = {"a": refused, "b": TagOutcome(TagStatus.REFUSED, "written"), "c": TagOutcome(TagStatus.WRITTEN)}
    assert tag._count_outcomes(outcomes) == {"refused": 2, "written": 1}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, "needs the folder of your music"),
        ({"source": "x", "min_confidence": 1.5}, "min_confidence must be from 0 to 1"),
        ({"source": "x", "dry_run": False}, "add -P write_tags=true"),
        ({"source": "x", "overwrite": True}, "add -P write_tags=true"),
        ({"source": "x", "undo": "y"}, "leave source and write_tags out"),
        ({"source": "x", "out": "tags.xls"}, "must end in .csv or .parquet"),
        ({"source": "x", "registry_name": "a b"}, "registry_name must be"),
    ],
)
def test_what_contradicts_itself_is_refused(home, wrong, sentence):
    usual = {name: parameter.default for name, parameter in inspect.signature(tag.tag.fn).parameters.items()}
    with pytest.raises(UsageError, match=sentence):
        tag.check_settings(usual | wrong)
