"""Flow ``tag`` as a user runs it: a real registry, real processes and files, kills, a cluster, tags and their undo."""

import hashlib
import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile as sf
from mlflow import MlflowClient

from flows import checks, tag
from genre import models, tags
from genre.config import AudioConfig
from genre.datasets import SYNTHETIC_WARNING, dataset_id
from genre.ensemble import Ensemble
from genre.errors import GenreError, UsageError
from genre.inputs.features import extract_features
from genre.library import answers, tagging
from genre.library.answers import PredictionStore
from genre.library.outcomes import TagOutcome, TagStatus
from genre.library.undo import UndoFile
from genre.workers import pool
from tests.support.project import ROOT
from tests.support.sounds import tone
from tracking import aliases, packaging, registry

GENRES = ["high", "low"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with an MLflow store, whose champion of ``genre`` knows high and low tones.

    The champion of ``demo`` is the same with a warning.
    """
    folder = tmp_path_factory.mktemp("store")
    config = AudioConfig()
    member = "logistic_regression"
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
    spec = Ensemble(GENRES, config, (member,), "geometric", 0.7, inputs={member: ["features"]})
    uri = packaging.log_model(run.info.run_id, spec, {member: folder / "t"}, {})
    aliases.promote_version("genre", registry.register_version("genre", uri, {}, ""), None)
    uri = packaging.log_model(run.info.run_id, replace(spec, warning=SYNTHETIC_WARNING), {member: folder / "t"}, {})
    aliases.promote_version("demo", registry.register_version("demo", uri, {}, ""), None)
    mlflow.artifacts.download_artifacts("models:/genre@champion", dst_path=str(folder / "downloaded"))
    mlflow.set_tracking_uri(before)
    return folder


@pytest.fixture(scope="module")
def model_dir(store: Path) -> Path:
    """Return the folder of the downloaded champion."""
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

    def start(self, module: str = "flows.tag", **parameters: object) -> subprocess.Popen[str]:
        """Start a flow in a process group of its own."""
        environment = {
            "GENRE_HOME": str(self.folder / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.store}/mlflow.db",
            "PREFECT_API_URL": self.api_url,
        }
        options = [word for k, v in parameters.items() for word in (f"--{k.replace('_', '-')}", str(v))]
        return subprocess.Popen(
            [sys.executable, "-m", module, *options],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def run(self, module: str = "flows.tag", **parameters: object) -> str:
        """Run a flow to its end and return its output."""
        process = self.start(module, **parameters)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    def table(self) -> pd.DataFrame:
        """Read the table, indexed by file name."""
        path = self.folder / "home" / "library" / "tags.csv"
        return pd.read_csv(path).assign(path=lambda t: [Path(p).name for p in t["path"]]).set_index("path")

    def states(self) -> dict[str, tuple[str, int, int]]:
        """Return hash, time and mode of every file of the music."""
        files = sorted(path for path in self.music.rglob("*") if path.is_file())
        return {
            str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, path.stat().st_mode)
            for path in files
        }

    def metrics(self) -> dict[str, float]:
        """Return the metrics of the last run."""
        experiment = self.client.get_experiment_by_name("library")
        return self.client.search_runs([experiment.experiment_id])[0].data.metrics


@pytest.fixture
def place(tmp_path: Path, store: Path, prefect_server: str) -> Place:
    place = Place(tmp_path, store, prefect_server)
    place.music.mkdir()
    return place


def fill(folder: Path) -> None:
    """Write audio files of several formats, a link, a format without tags, hidden, broken and other files."""
    (folder / "albums" / "one").mkdir(parents=True)
    for n, suffix in enumerate(("mp3", "wav", "flac", "ogg", "aiff")):
        for hz, name in ((900, "high"), (112, "low")):
            sf.write(folder / "albums" / "one" / f"{name} {n}.{suffix}", tone(5, hz=hz, seed=n), 22050)
    sf.write(folder / "no tags.au", tone(5, hz=900), 22050)
    sf.write(folder / "silent.wav", np.zeros(110_250), 22050)
    sf.write(folder / "unsure.wav", (tone(5, hz=900) + tone(5, hz=110)) / 2, 22050)
    (folder / "text.mp3").write_text("no music")
    (folder / "._unsure.wav").write_bytes(b"\0\5\x16\7" + bytes(100))  # as macOS writes beside a file
    (folder / "#recycle").mkdir()
    (folder / "#recycle" / "deleted.wav").write_bytes((folder / "unsure.wav").read_bytes())
    (folder / "tune.mid").touch()
    (folder / "notes.txt").write_text("no audio")
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes((folder / "albums/one/low 1.wav").read_bytes())
    (folder / "link.mp3").symlink_to(folder / "albums" / "one" / "high 0.mp3")


def check_left_out(place: Place, output: str) -> None:
    """Check that what `fill` adds and the listing leaves out is reported, and in MLflow without a file's name."""
    expected = {
        "files in trash, old versions and the like": "#recycle",
        "files of types that are not decoded": ".mid",
        "files with a leading dot and no audio": ".wav",
    }
    for reason, kind in expected.items():
        assert f"left out: 1 {reason.replace('files', 'file', 1)} ({kind}), such as {place.music}" in output
    run = place.client.search_runs([place.client.get_experiment_by_name("library").experiment_id])[0]
    table = place.client.download_artifacts(run.info.run_id, "tables/left-out.csv")
    assert pd.read_csv(table).to_dict("list") == {
        "reason": [*expected],
        "type": [*expected.values()],
        "number": [1] * 3,
    }
    note = run.data.tags["mlflow.note.content"]
    assert all(f"| {reason} | {kind} | 1 |" in note for reason, kind in expected.items())
    assert not any(name in note + Path(table).read_text() for name in ("deleted", "unsure", "tune"))


def test_a_library_is_predicted_tagged_trained_on_and_restored(place):
    fill(place.music)
    states = place.states()
    output = place.run(source=place.music, write_tags="true")
    assert "No file was touched" in output and place.states() == states
    assert "11 would be written, 1 refused, 2 unknown, 2 not readable; details" in output
    assert f"{place.music}/text.mp3: " in output and "2 unknown: the model is not confident enough" in output
    check_left_out(place, output)
    lines = output.splitlines()
    assert "albums/one/high 2.flac: (none) → high" in lines and r"caf\xe9.wav: (none) → low" in lines
    assert any(line.startswith("no tags.au: ? → high (refused: cannot ") for line in lines)
    table = place.table()
    assert list(table) == [
        "genre",
        "confidence",
        *GENRES,
        "error",
        "message",
        "note",
        "model_version",
        "proposed",
        "tag",
    ]
    assert len(table) == 16
    sure = table[table["tag"] == "would be written"]
    assert (sure["proposed"] == sure["genre"]).all()
    assert len(sure) == 11, table[["genre", "tag", "message"]].to_string()
    assert all(genre == name.split()[0] for name, genre in sure["genre"].items() if name[:2] in ("hi", "lo"))
    assert table.loc[r"caf\xe9.wav", "genre"] == "low"
    assert table.loc["no tags.au", "tag"].startswith("refused: ") and "format" in table.loc["no tags.au", "tag"]
    assert table["error"].dropna().index.tolist() == ["silent.wav", "text.mp3"]
    assert (table.loc[table["error"].isna(), GENRES].sum(axis=1).round(6) == 1).all()
    assert set(table["model_version"]) == {"genre/1"}

    command = [line for line in output.splitlines() if line.startswith("mlflow run")][-1]
    assert command.endswith("-P write_tags=true -P dry_run=false") and f"'source={place.music}'" in command
    [[*train, option, flag, other_data], _] = printed_commands(output)
    assert train == ["mlflow", "run", ".", "--env-manager", "local", "-P", "dataset=folder", "-P"]
    assert (flag, other_data) == ("-P", "other_data=true")  # or the version would be refused for its data set
    path = Path(option.removeprefix("source="))
    sure = pd.read_csv(path)
    assert path.parent == place.folder / "home" / "library" and list(sure) == ["path", "genre", "confidence"]
    assert sure["confidence"].is_monotonic_increasing
    named = table[table["genre"].isin(GENRES)].drop([r"caf\xe9.wav", "link.mp3"])
    assert {Path(p).name: genre for p, genre in zip(sure["path"], sure["genre"], strict=True)} == named[
        "genre"
    ].to_dict()
    corrected = correct_labels(path)

    output = place.run(source=place.music, write_tags="true", dry_run="false")
    assert "which was there already and is left as it is" in output and printed_commands(output)[0][-3] == option
    pd.testing.assert_frame_equal(pd.read_csv(path), corrected)
    assert "files, 0 of them new or changed" in output and "10 files tagged" in output
    assert all(f"{n}, " in output for n in ("10 written", "1 refused", "1 there already"))
    assert "2 unknown, 2 not readable" in output and output.count("Undo file: ") == 1
    written = place.table()["tag"] == "written"
    assert written.sum() == 10 and place.table().loc["link.mp3", "tag"] == "there already"
    assert tags.read_genres(place.music / "albums/one/low 2.flac") == ["low"]
    assert (place.music / "link.mp3").is_symlink()
    changed = {path for path, state in place.states().items() if state != states[path]}
    assert len(changed) == 11  # one of them is also listed as link.mp3
    metrics = place.metrics()
    assert metrics["files"] == 16 and metrics["errors"] == 2 and metrics["tags_written"] == 10
    logged = [path.read_bytes() for path in place.store.rglob("*") if path.is_file()]
    assert any(b"my music" in content for content in logged)  # the parameter source
    assert not any(b"no tags.au" in content for content in logged)

    location = (place.folder / "artifacts").as_uri()  # by default, artifacts go below the project's folder
    place.client.create_experiment(dataset_id("folder", str(path)), artifact_location=location)
    given = {"model": "logistic_regression", "folds": 0, "n_jobs": 1, "registry_name": "my-genre"}
    trained = place.run("flows.retrain", dataset="folder", source=path, **given)
    assert f"{len(sure)} clips of {len(sure)} recordings" in trained and f"clips: {len(sure)} ok" in trained
    registered = place.client.get_model_version("my-genre", "1")
    assert json.loads(registered.tags["genres"]) == ["high", "hum", "low"]

    (undo_file,) = (place.folder / "home" / "library" / "undo").iterdir()
    assert "10 restored, 0 as before, 0 refused" in place.run(undo=undo_file)
    assert place.states() == states

    for path in place.music.rglob("*.*"):
        path.chmod(0o444)
    output = place.run(source=place.music, write_tags="true", dry_run="false", n_jobs=1)
    assert "12 refused, 2 unknown, 2 not readable" in output and "No file was tagged." in output
    assert "Undo file" not in output


def test_genres_of_a_model_that_heard_no_real_music_are_written_only_on_demand(place):
    write_library(place.music, 10)
    states = place.states()
    settings = {"source": place.music, "registry_name": "demo", "write_tags": "true", "n_jobs": 2}
    output = place.run(**settings)
    assert output.count(SYNTHETIC_WARNING) == 1
    assert "10 would be written" in output and f"No file was touched. {tag.NOT_WRITTEN}" in output
    experiment = place.client.get_experiment_by_name("library")
    (run, *_) = place.client.search_runs([experiment.experiment_id])
    assert run.data.tags["warning"] == SYNTHETIC_WARNING

    process = place.start(**settings, dry_run="false")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and f"error: {SYNTHETIC_WARNING} {tag.NOT_WRITTEN}" in output
    assert "Traceback" not in output and place.states() == states

    output = place.run(**settings, dry_run="false", allow_synthetic="true")
    assert output.count(SYNTHETIC_WARNING) == 1 and "10 files tagged" in output
    assert tags.read_genres(place.music / "00.wav") == ["low"]


def test_several_genres_are_written_in_a_users_own_words(place):
    for name, hz in (("both", 330), ("kept", 330), ("low", 110)):
        sf.write(place.music / f"{name}.flac", tone(5, hz=hz), 22050)
    tagging.write_genres(place.music / "kept.flac", ["Jazz", "Soul"], UndoFile(place.folder / "before.jsonl"))
    names = {"HIGH": 'Höhe & "Co\'s"', "Low ": "Bass"}
    options = {"max_genres": 2, "min_confidence": 0.3, "genre_names": json.dumps(names, ensure_ascii=False)}
    output = place.run(source=place.music, write_tags="true", **options)
    both = 'Bass; Höhe & "Co\'s"'
    lines = (f"both.flac: (none) → {both}", f"kept.flac: Jazz; Soul → {both} (kept)", "low.flac: (none) → Bass")
    assert "\n".join(lines) in output
    table = place.table()
    assert table["genre"].tolist() == ["low"] * 3 and table["proposed"].tolist() == [both, both, "Bass"]
    assert table["tag"].tolist() == ["would be written", "kept: Jazz; Soul", "would be written"]

    words = printed_commands(output)[-1]
    given = [word.split("=", 1) for word in words if "=" in word]
    assert dict(given)["genre_names"] == options["genre_names"]
    assert "2 files tagged" in place.run(**dict(given))
    assert tags.read_genres(place.music / "both.flac") == ["Bass", 'Höhe & "Co\'s"']
    assert tags.read_genres(place.music / "low.flac") == ["Bass"]
    assert tags.read_genres(place.music / "kept.flac") == ["Jazz", "Soul"]


def test_names_for_other_genres_are_refused_before_anything_is_predicted(place):
    write_library(place.music, 1)
    process = place.start(source=place.music, write_tags="true", genre_names='{"Hip hop": "Hip-Hop"}')
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1 and "Traceback" not in output
    assert "error: genre_names has 'Hip hop', which is no genre of the model; its genres are: high, low" in output
    assert n_predictions(place.folder / "home" / "library" / "answers.sqlite") == 0


def printed_commands(output: str) -> list[list[str]]:
    """Return the commands that a run has printed, in words."""
    return [shlex.split(line) for line in output.splitlines() if line.startswith("mlflow run ")]


def correct_labels(path: Path) -> pd.DataFrame:
    """Give three files of a CSV a genre of their own, as a person does in a spreadsheet; return the new table."""
    table = pd.read_csv(path)
    is_hum = table["path"].str.endswith(("high 1.wav", "low 1.wav", "low 2.flac"))
    assert is_hum.sum() == 3
    table.loc[is_hum, "genre"] = "hum"
    table.to_csv(path, index=False, encoding="utf-8-sig")
    return table


def test_a_genre_with_few_sure_files_and_another_list_of_genres_are_pointed_out(place):
    sf.write(place.music / "low.wav", tone(5, hz=110), 22050)
    output = place.run(source=place.music)
    assert "Fewer than 3 files: low. Before you train, add files, or remove their lines." in output
    assert printed_commands(output)[0][-1] == "registry_name=my-genre"


def write_library(folder: Path, n_files: int) -> None:
    """Write tracks of a low and a high tone in turn."""
    for k in range(n_files):
        sf.write(folder / f"{k:02d}.wav", tone(2, hz=900 if k % 2 else 110, seed=k), 22050)


def becomes_true(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait for a condition, and return whether it was met in time."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def n_predictions(path: Path) -> int:
    """Count the predictions in a store."""
    if not path.exists():
        return 0
    with closing(PredictionStore(path)) as store:
        return store._db.execute("SELECT count(*) FROM answers").fetchone()[0]


def is_alive(process: psutil.Process) -> bool:
    """Check that a process runs and is no zombie."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_killed_run_resumes_and_predicts_no_file_twice(place):
    write_library(place.music, 60)
    process = place.start(source=place.music, n_jobs=1)
    path = place.folder / "home" / "library" / "answers.sqlite"
    assert becomes_true(lambda: n_predictions(path) >= 8, 120)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "serving/isolated/library.py" in child.cmdline()]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert workers and becomes_true(lambda: not any(map(is_alive, workers)))
    done = n_predictions(path)
    assert 8 <= done < 60
    with closing(PredictionStore(path)) as store:
        first = next(name for (name,) in store._db.execute("SELECT path FROM answers ORDER BY path")).decode()
    sf.write(first, tone(2, hz=450), 22050)  # a predicted file changes
    out = place.folder / "new" / "tags.parquet"
    assert f"60 files, {61 - done} of them new or changed" in place.run(source=place.music, out=out, n_jobs=1)
    table = pd.read_parquet(out)
    is_changed = table["path"] == first
    unchanged = table[~is_changed]
    assert unchanged["genre"].tolist() == [["low", "high"][int(Path(path).stem) % 2] for path in unchanged["path"]]
    assert is_changed.sum() == 1 and table["high"][is_changed].item() not in unchanged["high"].tolist()


def test_processes_and_a_cluster_predict_the_same(model_dir, tmp_path):
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    write_library(tmp_path, 20)
    files = answers.list_library(tmp_path)

    def predict(**options: object) -> list[dict]:
        batches = answers.predict_files(files, model_dir, **options)
        return sorted((p for _, predictions in batches for p in predictions), key=lambda p: p["path"])

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        on_cluster = predict(dask=cluster.scheduler_address)
    assert on_cluster == predict(n_jobs=2)
    assert [p["path"] for p in on_cluster] == files["path"].tolist()
    assert [p["genre"] for p in on_cluster] == ["low", "high"] * 10


#: Code of a model that kills its process on one file, whose content is "poison" (base64: cG9pc29u).
POISON = """
import mlflow.pyfunc, os
predict = mlflow.pyfunc.PyFuncModel.predict
def fragile(self, data, *arguments, **named):
    if data["audio"][0].startswith("cG9pc29u"):
        os.kill(os.getpid(), 11)
    return predict(self, data, *arguments, **named)
mlflow.pyfunc.PyFuncModel.predict = fragile
"""


def test_a_file_that_kills_its_worker_costs_no_other_file(model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "_MAX_ATTEMPTS", 1)
    model = shutil.copytree(model_dir, tmp_path / "model")
    (model / "code" / "genre" / "__init__.py").write_text(POISON)
    write_library(tmp_path, 3)
    (tmp_path / "01.wav").write_bytes(b"poison")
    batches = answers.predict_files(answers.list_library(tmp_path), model, n_jobs=1)
    by_name = {Path(p["path"]).name: p for _, predictions in batches for p in predictions}
    message = "the worker process that read it was killed by signal 11"
    assert by_name["01.wav"]["error"] == {"code": "crashed", "message": message}
    assert [by_name[name]["genre"] for name in ("00.wav", "02.wav")] == ["low", "low"]


def test_a_model_that_cannot_be_loaded_is_an_error_in_words(tmp_path):
    write_library(tmp_path, 1)
    with pytest.raises(GenreError, match="the model cannot be loaded"):
        list(answers.predict_files(answers.list_library(tmp_path), tmp_path, n_jobs=1))


def test_refused_files_are_counted_together_whatever_the_reason():
    outcomes = {
        "a": TagOutcome(TagStatus.REFUSED, ("low",), None, "no music"),
        "b": TagOutcome(TagStatus.REFUSED, ("low",), (), "written"),
        "c": TagOutcome(TagStatus.WRITTEN, ("low",)),
    }
    assert tag._count_outcomes(outcomes) == {"refused": 2, "written": 1}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, "needs the folder of your music"),
        ({"source": "x", "min_confidence": 1.5}, "min_confidence must be from 0 to 1"),
        ({"source": "x", "dry_run": False}, "add -P write_tags=true"),
        ({"source": "x", "overwrite": True}, "add -P write_tags=true"),
        ({"source": "x", "max_genres": 2}, "add -P write_tags=true"),
        ({"source": "x", "max_genres": 0, "write_tags": True}, "max_genres must be 1 or more; got 0"),
        ({"source": "x", "genre_names": '{"low": "Bass"}'}, "add -P write_tags=true"),
        ({"source": "x", "genre_names": "{low: Bass}", "write_tags": True}, "genre_names is not JSON"),
        ({"source": "x", "undo": "y"}, "leave source and write_tags out"),
        ({"source": "x", "out": "tags.xls"}, "must end in .csv or .parquet"),
        ({"source": "x", "registry_name": "a b"}, "registry_name must be"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(home, wrong, sentence):
    defaults = {name: parameter.default for name, parameter in inspect.signature(tag.tag.fn).parameters.items()}
    with pytest.raises(UsageError, match=sentence):
        checks.check_tag(defaults | wrong)
