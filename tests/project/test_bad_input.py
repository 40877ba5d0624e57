"""Wrong input at the command line gives one sentence, a non-zero exit status and no traceback."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from mlflow import MlflowClient

from genre.datasets import DATASETS, dataset_id
from genre.inputs.features import PUBLISHED_FEATURE_NAMES
from genre.models import MODELS
from tests.support.project import ROOT
from tests.support.servers import free_port
from tests.support.sounds import tone, write_music

Done = subprocess.CompletedProcess[str]
Command = Callable[..., Done]

#: Runs each line that it reads as ``python -m MODULE ...``, in a process of its own, forked from one that has imported
#: Prefect, MLflow and pandas already: two seconds instead of six.
FORKS = """
import gc, json, os, runpy, sys
import flows.promote, flows.retrain, flows.rollback
import genre.datasets.folder, genre.datasets.published, genre.models.classical
import mlflow.store.tracking.sqlalchemy_store, mlflow.store.model_registry.sqlalchemy_store
gc.freeze()  # else each fork's first collection copies the whole heap
for line in sys.stdin:
    asked = json.loads(line)
    if not (pid := os.fork()):
        for fd in (1, 2):
            os.dup2(os.open(asked["out"][fd - 1], os.O_WRONLY | os.O_CREAT), fd)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(asked["cwd"])
        os.environ.update(asked["env"])
        del sys.modules[asked["module"]]
        sys.argv = [asked["module"], *asked["arguments"]]
        runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forks(prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GENRE_HOME"))}
    own = {"PREFECT_API_URL": prefect_server, "PREFECT_HOME": str(tmp_path_factory.mktemp("client"))}
    with subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env=kept | own | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database, copied for each test: MLflow takes seconds to make one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


def run(forks: subprocess.Popen, folder: Path, line: str, **environment: str) -> Done:
    """Run a command line in a folder that holds its workspace and its MLflow store."""
    module, *arguments = shlex.split(line)
    out = [str(folder / name) for name in ("stdout", "stderr")]
    for path in out:
        Path(path).unlink(missing_ok=True)
    own = {"GENRE_HOME": str(folder / "workspace"), "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    asked = {"module": module, "arguments": arguments, "env": own | environment, "out": out, "cwd": str(folder)}
    print(json.dumps(asked), file=forks.stdin, flush=True)
    returncode = int(forks.stdout.readline())
    return subprocess.CompletedProcess(line, returncode, *(Path(path).read_text() for path in out))


@pytest.fixture
def command(forks: subprocess.Popen, empty_store: Path, tmp_path: Path) -> Command:
    """``command("flows.build --dataset demo")``, with nothing built and nothing logged."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return partial(run, forks, tmp_path)


@pytest.fixture(scope="module")
def built(forks: subprocess.Popen, empty_store: Path, music: Path, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The same where `music` is built, for tests that leave it as it is."""
    folder = tmp_path_factory.mktemp("built")
    shutil.copy(empty_store, folder / "mlflow.db")
    done = run(forks, folder, f"flows.build {of(music)} --options '{{\"max_clips_per_track\": 1}}'")
    assert done.returncode == 0, done.stderr
    return partial(run, forks, folder)


def of(source: Path, dataset: str = "folder") -> str:
    return f"--dataset {dataset} --source {source}"


def sentence(done: Done) -> str:
    """The one sentence of a command that was refused."""
    assert done.returncode == 1, done
    assert "Traceback" not in done.stdout + done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def assert_contains(text: str, *parts: str) -> None:
    for part in parts:
        assert part in text


@pytest.fixture(scope="module")
def sources(music: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders and files, each wrong in its way, next to music that is right."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "music").symlink_to(music)
    (folder / "empty").mkdir()
    write_music(folder / "one_genre", genres={"low": 110.0}, tracks=1, seconds=2)
    write_music(folder / "two_tracks", genres={"high": 880.0, "low": 110.0}, tracks=2, seconds=2)
    for name in ("high", "low"):
        (folder / "text" / name).mkdir(parents=True)
        for n in range(3):
            (folder / "text" / name / f"{n}.wav").write_text("this is no music\n")
    sf.write(folder / "song.wav", tone(1, hz=110), 22050)
    (folder / "no_path.csv").write_text("file,genre\na.wav,low\n")
    (folder / "blank.csv").write_text("")
    table = pd.DataFrame(1.0, index=["0_low.wav", "1_high.wav"], columns=list(PUBLISHED_FEATURE_NAMES))
    table.iloc[:, 1:].to_csv(folder / "97_columns.csv")
    table.assign(**{PUBLISHED_FEATURE_NAMES[3]: ["loud", 1.0]}).to_csv(folder / "words.csv")
    table.assign(**{PUBLISHED_FEATURE_NAMES[3]: [np.nan, 1.0]}).to_csv(folder / "gap.csv")
    table.set_axis(["low.wav", "high.wav"]).to_csv(folder / "no_genre.csv")
    return folder


#: id, what is typed, and what the answer must name: what came, and what to do.
REFUSED = [
    (
        "missing-folder",
        "build --dataset folder --source {0}/nothing",
        ["there is no {0}/nothing", "sub-folder per genre"],
    ),
    ("empty-folder", "build --dataset folder --source {0}/empty", ["no audio", "{0}/empty", "sub-folder per genre"]),
    ("one-genre", "build --dataset folder --source {0}/one_genre", ["only one genre", "low", "at least two"]),
    ("too-few", "build --dataset folder --source {0}/two_tracks", ["high 2, low 2", "3 or more"]),
    ("undecodable", "build --dataset folder --source {0}/text", ["none of 6 clips", ".wav"]),
    ("folder-of-a-file", "build --dataset folder --source {0}/song.wav", ["{0}/song.wav", "CSV"]),
    ("csv-without-path", "build --dataset folder --source {0}/no_path.csv", ["lacks the column path", "file, genre"]),
    ("blank-csv", "build --dataset folder --source {0}/blank.csv", ["{0}/blank.csv", "CSV"]),
    ("published-audio", "build --dataset published --source {0}/song.wav", ["{0}/song.wav", "CSV"]),
    ("published-folder", "build --dataset published --source {0}/empty", ["{0}/empty", "CSV"]),
    ("published-columns", "build --dataset published --source {0}/97_columns.csv", ["97 columns", "expected 98"]),
    ("published-blank", "build --dataset published --source {0}/blank.csv", ["{0}/blank.csv", "CSV"]),
    ("published-words", "build --dataset published --source {0}/words.csv", ["{0}/words.csv", "not a number", "loud"]),
    ("published-gap", "build --dataset published --source {0}/gap.csv", ["{0}/gap.csv", "0_low.wav", "remove"]),
    ("published-genre", "build --dataset published --source {0}/no_genre.csv", ["'low.wav'", "NUMBER_Genre"]),
    ("no-source", "build --dataset folder", ["needs -P source=PATH", "sub-folder per genre"]),
    ("data-set", "build --dataset millionsong", ["unknown data set 'millionsong'", *DATASETS]),
    ("option", "build --options '{{\"sekonds\": 1}}'", ["unknown parameter 'sekonds'", "accepted"]),
    (
        "option-type",
        'build --dataset folder --source {0}/music --options \'{{"max_clips_per_track": "6"}}\'',
        ["'max_clips_per_track'", "of type int", "'6'"],
    ),
    (
        "option-range",
        "build --dataset folder --source {0}/music --options '{{\"max_clips_per_track\": 0}}'",
        ["max_clips_per_track must be at least 1", "0"],
    ),
    ("options-json", "build --options '{{max: 1}}'", ["options is not JSON", "{{max: 1}}", "such as"]),
    ("options-list", "build --options '[1]'", ["options must be a JSON object", "[1]"]),
    (
        "split-of-source",
        "build --dataset folder --source {0}/music --split source",
        ["split", "train, validation, test", "split=dealt"],
    ),
    ("model", "train --model vgg19", ["unknown model 'vgg19'", *MODELS]),
    ("no-model", "train --model ''", ["unknown model ''", *MODELS]),
    ("model-of-retrain", "retrain --model svm,vgg19", ["unknown model 'vgg19'", *MODELS]),
    ("params-json", "train --model svm --params '{{depth: 6}}'", ["params is not JSON", "{{depth: 6}}", "such as"]),
    ("params-list", "train --model svm --params 6", ["params must be a JSON object", "6"]),
    ("param", "train --model svm --params '{{\"depth\": 6}}'", ["unknown parameter 'depth' of svm", "accepted", "C"]),
    ("param-type", 'train --model svm --params \'{{"C": "big"}}\'', ["'C' of svm", "of type float", "'big'"]),
    (
        "params-of-several",
        "train --model svm,catboost --params '{{\"C\": 1}}'",
        ["must name them", '{{"svm": {{...}}}}'],
    ),
    (
        "params-of-another",
        'train --model svm --params \'{{"svn": {{"C": 1}}}}\'',
        ["unknown parameter 'svn'", "accepted: svm"],
    ),
    (
        "train-before-build",
        "train --dataset folder --source {0}/music",
        ["no clips in", "-e build", "-P source="],
    ),
    (
        "promote-before-build",
        "promote --dataset folder --source {0}/music",
        ["no clips in", "-e build", "-P source="],
    ),
    ("seed", "train --model svm --seed -1", ["seed must be", "-1"]),
    ("registry-name", "promote --registry-name my/model", ["registry_name must be", "'my/model'"]),
    ("min-gain", "promote --min-gain 1.5", ["min_gain must be", "got 1.5"]),
    ("min-precision", "retrain --min-precision 0", ["min_precision must be", "got 0"]),
    ("folds", "train --model svm --folds 1", ["folds must be", "got 1"]),
    ("rollback", "rollback --registry-name nobody", ["no champion of nobody", "registry_name"]),
    ("no-registry-name", "retrain --registry-name ''", ["registry_name must be", "''"]),
    ("n-jobs", "build --dataset folder --source {0}/music --n-jobs 0", ["n_jobs must be", "got 0"]),
]


@pytest.mark.parametrize(("line", "parts"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_wrong_input_is_answered_with_a_sentence(line: str, parts: list[str], command: Command, sources: Path):
    message = sentence(command("flows." + line.format(sources)))
    assert_contains(message, *(part.format(sources) for part in parts))


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("flows.build --datasett demo", ["No such option", "--datasett"]),
        ("flows.build --variant published", ["published", "corrected", "paper"]),
        ("flows.build --split mine", ["mine", "dealt", "source"]),
        ("flows.train --seed many", ["--seed", "valid integer"]),
        ("flows.build --n-jobs all", ["--n-jobs", "valid integer"]),
        ("flows.train --model", ["--model", "argument"]),
        ("flows.promote demo", ["unexpected", "demo"]),
    ],
)
def test_a_wrong_command_line_is_answered_with_its_usage(line: str, parts: list[str], command: Command):
    done = command(line)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    assert_contains(done.stderr, *parts)


@pytest.mark.parametrize("name", ["split", "genre", "recording", "clip_id", "error", "unknown"])
def test_a_genre_whose_name_is_taken(name: str, command: Command, music: Path, tmp_path: Path):
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / name).symlink_to(music / "high")
    (tmp_path / "music" / "low").symlink_to(music / "low")
    assert_contains(
        sentence(command(f"flows.build {of(tmp_path / 'music')}")), "a genre cannot be called", repr(name), "rename"
    )


def test_promote_before_train(built: Command, music: Path):
    message = sentence(built(f"flows.promote {of(music)}"))
    assert_contains(message, "no model has been trained", "-e train", "-P source=")


def test_train_in_another_variant_than_was_built(built: Command, music: Path):
    message = sentence(built(f"flows.train {of(music)} --variant paper"))
    assert_contains(message, "8 clips are not in the store", "-e build", "-P source=")


def test_an_mlflow_that_cannot_be_reached_or_is_none(command: Command, music: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    in_a_file = f"sqlite:///{tmp_path}/file/mlflow.db"
    for uri in ("http://127.0.0.1:9", "warehouse://somewhere/db", in_a_file, "http://", "file"):
        started = time.monotonic()
        assert_contains(
            sentence(command(f"flows.build {of(music)}", MLFLOW_TRACKING_URI=uri)), uri, "MLFLOW_TRACKING_URI"
        )
        assert time.monotonic() - started < 60


def test_a_prefect_that_cannot_be_reached(music: Path, tmp_path: Path):
    url = f"http://127.0.0.1:{free_port()}/api"
    own = {"PREFECT_API_URL": url, "PREFECT_HOME": str(tmp_path), "GENRE_HOME": str(tmp_path)}
    done = run_module(f"flows.build {of(music)}", **own)
    assert_contains(sentence(done), url, "prefect server start", "PREFECT_API_URL")


def test_a_workspace_that_is_a_file(command: Command, music: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    message = sentence(command(f"flows.build {of(music)}", GENRE_HOME=str(tmp_path / "file")))
    assert_contains(message, str(tmp_path / "file"), "GENRE_HOME")


def test_a_workspace_that_is_a_file_where_prefect_has_no_server(music: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    done = run_module(f"flows.build {of(music)}", GENRE_HOME=str(tmp_path / "file"))
    assert_contains(sentence(done), str(tmp_path / "file"), "GENRE_HOME")


def test_a_workspace_in_use(command: Command, music: Path, tmp_path: Path):
    folder = tmp_path / "workspace" / dataset_id("folder", str(music))
    folder.mkdir(parents=True)
    started = time.monotonic()
    with filelock.FileLock(folder / ".lock"):
        message = sentence(command(f"flows.build {of(music)}"))
    assert_contains(message, "another run is working", str(folder), "GENRE_HOME")
    assert time.monotonic() - started >= 10


def test_a_model_that_fails_does_not_end_the_experiment(built: Command, music: Path):
    folder = built.args[1]
    params = shlex.quote(json.dumps({"catboost": {"depth": 50, "iterations": 2}}))
    done = built(f"flows.train {of(music)} --model catboost,logistic_regression --params {params}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    board = {line.split()[0]: line.rstrip() for line in done.stdout.splitlines() if line.strip()}
    assert board["logistic_regression"].endswith("trained")
    assert_contains(board["catboost"], "failed", "depth")

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name(dataset_id("folder", str(music)))
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs["catboost"].info.status == "FAILED"
    assert "depth" in runs["catboost"].data.tags["reason"]
    assert runs["logistic_regression"].info.status == "FINISHED"
    assert runs["train catboost,logistic_regression"].info.status == "FINISHED"


def test_an_experiment_of_which_every_model_fails(built: Command, music: Path):
    params = shlex.quote(json.dumps({"depth": 50}))
    done = built(f"flows.train {of(music)} --model catboost --params {params}")
    assert_contains(sentence(done), "no model could be trained", "catboost", "depth")
    client = MlflowClient(f"sqlite:///{built.args[1]}/mlflow.db")
    experiment = client.get_experiment_by_name(dataset_id("folder", str(music)))
    runs = client.search_runs([experiment.experiment_id], "attributes.run_name = 'train catboost'")
    assert [run.info.status for run in runs] == ["FAILED"]
    assert "no model could be trained" in runs[0].data.tags["reason"]


def test_what_is_not_served_says_what_to_do(command: Command, tmp_path: Path):
    rng = np.random.default_rng(0)
    names = [f"{n}_{genre}.wav" for n, genre in enumerate(["high", "low"] * 12)]
    columns = list(PUBLISHED_FEATURE_NAMES)
    table = pd.DataFrame(rng.normal(size=(len(names), len(columns))), index=names, columns=columns)
    table.to_csv(tmp_path / "features.csv")
    done = command(f"flows.retrain {of(tmp_path / 'features.csv', 'published')} --model logistic_regression")
    assert done.returncode == 0, done.stderr
    assert_contains(done.stdout, "not registered", "no audio", "there is no champion yet", "mlflow run .")


@pytest.mark.parametrize("url", ["127.0.0.1:5001", "nonsense", "http://"])
def test_a_request_to_no_address(url: str, tmp_path: Path):
    (tmp_path / "song.wav").write_bytes(b"")
    done = run_module(f"serving.request {tmp_path / 'song.wav'} --url {url}")
    assert done.returncode == 2, done
    assert_contains(
        done.stdout + done.stderr, "the address of a served model looks like http://127.0.0.1:5001", repr(url)
    )


def run_module(line: str, **environment: str) -> Done:
    """Run a command line in a process started for it, without the test's Prefect server."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    command = [sys.executable, "-m", *shlex.split(line)]
    return subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=300)
