"""MLproject and the flows hold together, and every parameter that is typed arrives."""

import argparse
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.utilities.callables import parameter_schema

from flows import cli
from flows.acquire import acquire
from flows.archive import archive
from flows.audit import audit_dataset
from flows.build import build
from flows.check import check
from flows.drift import drift
from flows.paper import reproduce_paper
from flows.pretrained import pretrained
from flows.promote import promote
from flows.retrain import retrain
from flows.robustness import measure_robustness
from flows.rollback import rollback
from flows.schedule import run_schedule
from flows.study import study
from flows.tag import tag
from flows.train import train
from genre import answer_log
from genre.config import AudioConfig
from genre.datasets import dataset_id
from genre.inputs.features import FEATURE_NAMES
from serving import page, request
from serving.deploy.__main__ import deploy
from tests.support.project import ROOT

ENTRY_POINTS = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
FLOWS = {
    "main": retrain,
    "retrain": retrain,
    "build": build,
    "train": train,
    "promote": promote,
    "pretrained": pretrained,
    "drift": drift,
    "rollback": rollback,
    "archive": archive,
    "acquire": acquire,
    "study": study,
    "paper": reproduce_paper,
    "robustness": measure_robustness,
    "audit": audit_dataset,
    "tag": tag,
}

#: A list of the tracks of `music` with their split; its name has blanks and a quote.
LISTED = "it's all music.csv"
OPTIONS = '{"max_clips_per_track":  1}'
PARAMS = '{"catboost":  {"depth": 2, "iterations": 4, "learning_rate": 0.3}}'


def test_every_flow_is_an_entry_point_and_the_other_way_round():
    assert set(ENTRY_POINTS) == set(FLOWS)


@pytest.mark.parametrize("name", FLOWS)
def test_parameters_and_defaults_are_those_of_the_flow(name: str):
    signature = inspect.signature(FLOWS[name].fn).parameters
    expected = {p.name: str(p.default) for p in signature.values()}
    assert {k: v["default"] for k, v in ENTRY_POINTS[name]["parameters"].items()} == expected


@pytest.mark.parametrize("name", FLOWS)
def test_every_parameter_is_handed_on_under_its_own_name(name: str):
    words = ENTRY_POINTS[name]["command"].split()
    module = "retrain" if name == "main" else name
    assert words[:3] == ["python", "-m", f"flows.{module}"]
    options = {
        option.removeprefix("--").replace("-", "_"): value
        for option, value in zip(words[3::2], words[4::2], strict=True)
    }
    assert options == {p: f"{{{p}}}" for p in ENTRY_POINTS[name]["parameters"]}


@pytest.mark.parametrize("name", FLOWS)
def test_prefect_shows_every_parameter_with_its_text_and_default(name: str):
    """Prefect's form is made of this schema; its text is the one of ``--help``."""
    shown = parameter_schema(FLOWS[name].fn).properties
    signature = inspect.signature(FLOWS[name].fn).parameters
    assert list(shown) == list(signature)
    for parameter in signature.values():
        _, option = get_args(parameter.annotation)
        assert shown[parameter.name]["description"] == option.description
        assert shown[parameter.name]["default"] == parameter.default
        assert shown[parameter.name]["type"] in ("string", "integer", "number", "boolean")


def as_command(function: Callable[..., Any]) -> dict[str, str]:
    """Options and arguments of a function that Typer runs, each with its text."""
    program = typer.Typer(add_completion=False)
    program.command()(function)
    return {p.opts[0]: getattr(p, "help", None) or "" for p in typer.main.get_command(program).params}


def of_parser(parser: argparse.ArgumentParser) -> dict[str, str]:
    return {(a.option_strings or [a.dest])[0]: a.help or "" for a in parser._actions if a.dest != "help"}


#: Every program that is run with ``python -m``, with its options and their texts.
PROGRAMS = {
    f"flows.{name}": as_command(cli.make_command(inspect.signature(flow.fn), "", print))
    for name, flow in FLOWS.items()
    if name != "main"
} | {
    "flows.schedule": as_command(run_schedule),
    "flows.check": as_command(check),
    "serving.deploy": as_command(deploy),
    "serving.request": of_parser(request._parser()),
    "serving.page": of_parser(page._parser()),
}


def test_every_program_is_looked_at():
    """Those in two folders are run by path, in a process of their own, and have no options."""
    found = [path for folder in ("flows", "serving") for path in (ROOT / folder).rglob("*.py")]
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for path in found
        if "__main__" in path.read_text() and path.parent.name not in ("isolated", "command")
    }
    assert modules == set(PROGRAMS)


@pytest.mark.parametrize("module", PROGRAMS)
def test_every_option_explains_itself(module: str):
    assert PROGRAMS[module]
    for option, text in PROGRAMS[module].items():
        assert len(text.split()) >= 4, option


@dataclass
class Place:
    """A source, a workspace and an MLflow store of their own."""

    folder: Path
    api_url: str

    @property
    def source(self) -> Path:
        return self.folder / LISTED

    @property
    def data_set(self) -> str:
        return dataset_id("folder", str(self.source))

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace" / self.data_set

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    def mlflow_run(self, entry_point: str, **parameters: Any) -> str:
        """``mlflow run . -e ENTRY_POINT -P ...``; returns what it printed."""
        own = {
            "GENRE_HOME": str(self.folder / "workspace"),
            "GENRE_LOG": str(self.folder / "log"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "PREFECT_API_URL": self.api_url,
            "PREFECT_HOME": str(self.folder / "prefect"),
            # MLproject calls python, whichever is first on the path
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
        given = [word for name, value in parameters.items() for word in ("-P", f"{name}={value}")]
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "run",
            str(ROOT),
            "-e",
            entry_point,
            "--env-manager",
            "local",
            *given,
        ]
        done = subprocess.run(command, cwd=self.folder, env=kept | own, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def runs(self, of_type: str) -> list[Run]:
        """Runs of the data set's experiment, by the first word of their names; the newest first."""
        experiment = self.client.get_experiment_by_name(self.data_set)
        runs = self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
        return [run for run in runs if run.info.run_name.split()[0] == of_type]

    def settings(self, of_type: str) -> dict[str, str]:
        """Return the settings that the newest run of a flow logged."""
        params = self.runs(of_type)[0].data.params
        return {k.removeprefix("settings."): v for k, v in params.items() if k.startswith("settings.")}


def settings_of(entry_point: str, given: dict[str, Any]) -> dict[str, str]:
    """The run's settings that `given` must leave."""
    assert set(given) == set(ENTRY_POINTS[entry_point]["parameters"]), "a parameter is not driven"
    defaults = {k: v["default"] for k, v in ENTRY_POINTS[entry_point]["parameters"].items()}
    assert not {k for k, v in given.items() if str(v) == defaults[k]}, "a parameter is driven with its default"
    return {k: str(v) for k, v in given.items()}


@pytest.fixture(scope="module")
def place(music: Path, prefect_server: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A CSV of the music with a split of its own."""
    place = Place(tmp_path_factory.mktemp("place"), prefect_server)
    sides = ["train", "train", "validation", "test"]
    rows = [(music / genre / f"{n}.wav", genre, side) for genre in ("high", "low") for n, side in enumerate(sides)]
    pd.DataFrame(rows, columns=["path", "genre", "split"]).to_csv(place.source, index=False)
    # MLflow puts artifacts below the project's folder by default
    place.client.create_experiment(place.data_set, artifact_location=(place.folder / "artifacts").as_uri())
    return place


def common(place: Place) -> dict[str, Any]:
    return {"dataset": "folder", "source": place.source, "variant": "paper"}


@pytest.fixture(scope="module")
def built(place: Place) -> dict[str, str]:
    """Asked of ``-e build``, once it is done."""
    distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")
    with distributed.LocalCluster(
        1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=None
    ) as c:
        given = common(place) | {"split": "source", "options": OPTIONS, "n_jobs": 1, "dask": c.scheduler_address}
        given |= {"model": "catboost", "weights": "none", "max_lost": 0.5}
        place.mlflow_run("build", **given)
        assert "genre.workers.dask_cluster" in sys.modules, "the cluster has computed nothing"
    return settings_of("build", given)


def test_archive_gets_every_parameter(place: Place, built: dict[str, str]):
    given = common(place) | {"action": "export", "file": place.folder / "it's all.parquet", "dry_run": "false"}
    assert set(given) == set(ENTRY_POINTS["archive"]["parameters"]), "a parameter is not driven"
    place.mlflow_run("archive", **given)
    assert len(pd.read_parquet(given["file"])) == 8


@pytest.fixture(scope="module")
def trained(place: Place, built: dict[str, str]) -> dict[str, str]:
    """Asked of ``-e train``, once it is done."""
    given = common(place) | {"model": "catboost", "params": PARAMS, "seed": 7, "folds": 0, "weights": "none"}
    place.mlflow_run("train", **given)
    return settings_of("train", given)


def test_build_gets_every_parameter(place: Place, built: dict[str, str]):
    assert place.settings("build") == built
    clips = pd.read_parquet(place.workspace / "clips.parquet")
    assert len(clips) == clips["recording"].nunique() == 8  # OPTIONS: one clip per track; of 12 s, there would be two
    splits = pd.read_parquet(place.workspace / "splits.parquet")
    assert splits["split"].value_counts().to_dict() == {"train": 4, "validation": 2, "test": 2}
    assert splits.set_index("recording")["split"].to_dict() == clips.set_index("recording")["split"].to_dict()
    assert [p.name.split("-")[0] for p in (place.workspace / "store").iterdir()] == ["paper"]


def test_train_gets_every_parameter(place: Place, trained: dict[str, str]):
    assert place.settings("train") == trained
    for model, params in json.loads(PARAMS).items():
        (run,) = place.runs(model)
        assert run.data.params["seed"] == "7"
        assert run.data.params["audio.variant"] == "paper"
        assert {k: float(run.data.params[f"hp.{k}"]) for k in params} == params


def test_promote_gets_every_parameter(place: Place, trained: dict[str, str]):
    given = common(place) | {"registry_name": "another-name", "min_gain": 0.001, "min_precision": 0.7}
    given |= {"replace": True, "other_data": True, "any_code": True}
    printed = place.mlflow_run("promote", **given)
    assert place.settings("promote") == settings_of("promote", given)
    assert [model.name for model in place.client.search_registered_models()] == ["another-name"]
    assert "another-name" in printed


@pytest.fixture(scope="module")
def retrained(place: Place, trained: dict[str, str]) -> dict[str, str]:
    """Asked of ``mlflow run`` without an entry point's name, once it is done."""
    given = common(place) | {
        "split": "source",
        "options": OPTIONS,
        "model": "logistic_regression",
        "params": '{"C": 2.5}',
        "seed": 8,
        "folds": 0,
        "weights": "none",
        "registry_name": "name-of-main",
        "min_gain": 0.002,
        "min_precision": 0.9,
        "replace": True,
        "other_data": True,
        "any_code": True,
        "min_change": 0.5,
        "max_drift": 0.3,
        "n_jobs": 1,
        "dask": "tcp://127.0.0.1:9",  # not asked: everything is built
    }
    place.mlflow_run("main", **given)
    return settings_of("main", given)  # `retrain` is the same lines of MLproject


def test_retrain_gets_every_parameter(place: Place, retrained: dict[str, str]):
    assert place.settings("retrain") == retrained
    run = next(run for run in place.runs("logistic_regression") if run.data.params["seed"] == "8")
    assert run.data.params["hp.C"] == "2.5"
    assert "name-of-main" in {model.name for model in place.client.search_registered_models()}


def test_tag_gets_how_genres_are_chosen_and_named(place: Place, retrained: dict[str, str], music: Path):
    place.client.create_experiment("library", artifact_location=(place.folder / "artifacts").as_uri())
    names = {"High": 'a "b" & {c}', "low": "it's $HOME"}
    given = {"max_genres": 2, "min_confidence": 0.0, "genre_names": json.dumps(names)}
    printed = place.mlflow_run(
        "tag", source=music / "high", registry_name="name-of-main", version="1", write_tags="true", n_jobs=1, **given
    )
    assert """0.wav: (none) → a "b" & {c}; it's $HOME""" in printed
    (run, *_) = place.client.search_runs([place.client.get_experiment_by_name("library").experiment_id])
    assert run.data.params["settings.genre_names"] == given["genre_names"]


def test_pretrained_gets_every_parameter(place: Place, network_path: Path):
    printed = place.mlflow_run("pretrained", weights=network_path, registry_name="known-genres")
    assert "version 1 of known-genres: promoted" in printed


def test_drift_gets_every_parameter(place: Place, retrained: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    place.client.set_registered_model_alias("name-of-main", "champion", "1")
    given = common(place) | {"registry_name": "name-of-main", "log": place.folder / "seen", "max_drift": 0.4}
    config = AudioConfig(variant="paper")
    genres = {"high": 0.9, "low": 0.1}
    monkeypatch.setenv("GENRE_LOG", str(given["log"]))
    for n in range(60):  # noise, which is no music that the model was trained on
        row = np.random.default_rng(n).normal(1e4, 1e3, len(FEATURE_NAMES))
        answer_log.log_prediction("name-of-main/1", genres, row, config)
    printed = place.mlflow_run("drift", **given)
    assert place.settings("drift") == settings_of("drift", given)
    assert "shifted by more than 0.4 in 60 predictions" in printed
