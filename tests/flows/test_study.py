"""The flows that compare: study, paper, audit; in this process, on a real store and a real Prefect server."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.audit import audit_dataset
from flows.build import build
from flows.paper import _with_published_network, reproduce_paper
from flows.study import study
from genre.datasets import dataset_id
from genre.errors import DataError, UsageError
from genre.evaluate.importance import group_by_feature
from genre.inputs.features import FEATURE_NAMES, PUBLISHED_FEATURE_NAMES
from genre.studies import published_results
from genre.workspace import Workspace
from tests.support.sounds import tone, write_music

FEW = '{"iterations": 20, "depth": 2}'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_server: str) -> Iterator[Path]:
    """Make a workspace and an MLflow store for all tests here."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_URL: prefect_server}):
        patch.setenv("GENRE_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        yield folder
        APILogHandler().flush()  # otherwise it would keep trying after the server has ended


@pytest.fixture(scope="module")
def copied_music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write twelve tracks in two genres; one is there twice, quieter, under the other genre."""
    folder = write_music(tmp_path_factory.mktemp("music"), genres={"high": 880.0, "low": 110.0}, tracks=6, seconds=10)
    sf.write(folder / "low" / "copy of high 1.wav", 0.5 * tone(10, hz=880 * 1.02, seed=1), 22050)
    return folder


@pytest.fixture(scope="module")
def source(place: Path, copied_music: Path) -> str:
    build("folder", str(copied_music), n_jobs=1)
    return str(copied_music)


def runs(source: str, name: str) -> list[Run]:
    client = MlflowClient()
    experiment = client.get_experiment_by_name(source)
    found = client.search_runs([experiment.experiment_id])
    return [run for run in found if run.info.run_name.startswith(name)]


def table_of(run: Run, name: str) -> pd.DataFrame:
    return pd.read_csv(MlflowClient().download_artifacts(run.info.run_id, f"tables/{name}.csv"))


def files_of(run: Run, folder: str) -> set[str]:
    return {Path(f.path).name for f in MlflowClient().list_artifacts(run.info.run_id, folder)}


def linked_figure(run: Run) -> str:
    """Return the file name of the figure that a run's description links, which must be there."""
    (path,) = re.findall(
        rf"\[figure\]\(\S+/runs/{run.info.run_id}/artifacts/(\S+)\)", run.data.tags["mlflow.note.content"]
    )
    return Path(MlflowClient().download_artifacts(run.info.run_id, path)).name


def test_build_makes_duplicates_one_recording(source: str):
    workspace = Workspace(dataset_id("folder", source))
    clips = workspace.read_clips().set_index("clip_id")
    assert clips.loc["high/1.wav@0", "recording"] == clips.loc["low/copy of high 1.wav@0", "recording"]
    assert clips["recording"].nunique() == 12 and (clips["status"] == "ok").all()
    (run,) = runs(workspace.dataset_id, "build")
    found = table_of(run, "copies")
    assert found[["first_genre", "second_genre"]].to_numpy().tolist() == [["high", "low"]]


def test_a_later_duplicate_is_removed_from_training(place: Path, tmp_path: Path):
    music = write_music(tmp_path / "m", genres={"high": 880.0, "low": 110.0}, tracks=5, seconds=10)
    build("folder", str(music), n_jobs=1)
    workspace = Workspace(dataset_id("folder", str(music)))
    splits = workspace.read_splits().set_index("recording")["split"]
    in_test = next(r for r in splits.index if splits[r] == "test" and r.startswith("high"))
    in_train = next(r for r in splits.index if splits[r] == "train" and r.startswith("high"))
    y, _ = sf.read(music / in_test)
    sf.write(music / in_train, 0.5 * y, 22050)
    assert build("folder", str(music), n_jobs=1) == {"ok": 9, "duplicate_of_test": 1}
    clips = workspace.read_clips().set_index("recording")
    assert clips.loc[in_train, "status"] == "duplicate_of_test" and in_test in clips.loc[in_train, "reason"]
    pd.testing.assert_series_equal(workspace.read_splits().set_index("recording")["split"], splits)


def test_study_compares_its_ablations_with_the_published_ones(source: str):
    before = len(runs(dataset_id("folder", source), "catboost"))
    scores = study("folder", source, params=FEW)
    assert list(scores) == ["features and modulations", *published_results.ABLATIONS, "modulations"]
    (parent,) = runs(dataset_id("folder", source), "study")
    table = table_of(parent, "study").set_index("features")
    n = len(FEATURE_NAMES)
    assert table["n"].tolist() == [n + 426, n, 9, n - 9, 10, 20, 30, 426]
    assert table["published_macro_auc"].dropna().tolist() == [0.865, 0.731, 0.857, 0.803, 0.837, 0.845]
    assert table["macro_auc"].to_dict() == pytest.approx(scores)
    figures = {"study.png", "shap.png", "importances.png", "permutation_by_feature.png", "permutation_by_family.png"}
    assert figures <= files_of(parent, "figures") and linked_figure(parent) == "study.png"
    assert set(table_of(parent, "shap")) == {"feature", "high", "low"}
    by_feature = set(group_by_feature(FEATURE_NAMES).values())
    assert len(table_of(parent, "permutation_by_feature")) == len(by_feature) + 71  # patterns of the modulations
    assert set(table_of(parent, "permutation_by_column")["feature"]) > {"tempo", "modulations"}
    assert "| time domain | 9 |" in parent.data.tags["mlflow.note.content"]
    trials = runs(dataset_id("folder", source), "catboost")
    assert len(trials) - before == 8 and {run.info.status for run in trials} == {"FINISHED"}
    top = next(run for run in trials if run.info.run_name == "catboost, top 10")
    assert len(top.data.params["columns"].split(", ")) == 10 and "test_macro_auc" in top.data.metrics
    assert study("folder", source, params=FEW) == scores
    assert len(runs(dataset_id("folder", source), "catboost")) == len(trials)


def test_audit_reports_leaks_and_writes_the_page(source: str):
    counts = audit_dataset("folder", source, model="logistic_regression", n_shown=3)
    assert counts["copies"] == 1 and 0 <= counts["honest"] <= 1
    workspace = Workspace(dataset_id("folder", source))
    (run,) = runs(workspace.dataset_id, "audit")
    assert "(0 exactly, 1 under two genres)" in run.data.tags["mlflow.note.content"]
    assert linked_figure(run) == "leaks.png"
    assert table_of(run, "leaks")["split"].tolist() == ["honest", "naive", "gap"]
    audited = table_of(run, "label_audit")
    assert len(audited) == 13 and "path" not in audited
    page = (workspace.directory / "audit" / "labels.html").read_text()
    assert page.count("<section>") == page.count("<audio") == page.count("<p data-line=") == 3
    logged = Path(MlflowClient().download_artifacts(run.info.run_id, "label_audit.html")).read_text()
    assert logged.count("<section>") == 3 and not any(word in logged for word in ("file:", "data-line", "<script"))
    with pytest.raises(UsageError, match="takes no features alone"):
        audit_dataset("folder", source, model="mel_cnn")


@pytest.fixture(scope="module")
def published(place: Path) -> tuple[Path, Path]:
    """Write a small table in the published format, and probabilities of some of its clips."""
    rng = np.random.default_rng(0)
    names = [f"{n}_{genre.replace(' ', '_')}.wav" for n in range(20) for genre in published_results.GENRES]
    code = np.arange(len(names)) % 7
    X = rng.normal(size=(len(names), len(PUBLISHED_FEATURE_NAMES))).astype(np.float32)
    X[:, :7] += 2 * np.eye(7)[code]
    table = pd.DataFrame(X, columns=list(PUBLISHED_FEATURE_NAMES)).round(3)
    table.insert(0, "file_name", names)
    table.to_csv(place / "df_features.csv", index=False)
    test = slice(0, 35)
    arrays = {
        m: rng.dirichlet(np.ones(7), 35) * 0.3 + 0.7 * np.eye(7)[code[test]] for m in published_results.PICKLE_FILES
    }
    arrays["vgg16_fine_tune"] = arrays["vgg16_fine_tune"][:-3]
    np.savez(place / "p.npz", file_name=np.array(names[test]), **arrays)
    return place / "df_features.csv", place / "p.npz"


def test_paper_prints_its_table_and_ours(published: tuple[Path, Path], capsys: pytest.CaptureFixture[str]):
    scores = reproduce_paper(*map(str, published), model="logistic_regression")
    ours = {"logistic_regression, paper", "logistic_regression, corrected"}
    assert set(scores) == {f"{m}, published" for m in published_results.TABLE_2} | ours
    assert scores["logistic_regression, corrected"] > 0.6
    printed = capsys.readouterr().out
    assert " of 14 checks that this is the published table hold" in printed
    assert re.search(r"logistic_regression +corrected +35 ", printed)
    (run,) = runs("paper", "paper")
    assert run.data.tags["sha256_source"] == hashlib.sha256(published[0].read_bytes()).hexdigest()
    table = table_of(run, "table-2").set_index(["model", "variant"])
    assert table.loc[("xgboost", "published"), "printed_macro_auc"] == 0.865
    assert (
        table.loc[("logistic_regression", "corrected"), ["p_against_published", "p_against_paper"]].between(0, 1).all()
    )
    figures = {"roc.png", "roc_published.png", "confusion_matrix_ensemble_published.png"}
    assert figures <= files_of(run, "figures") and linked_figure(run) == "table_2.png"
    trial = runs("paper", "logistic_regression, corrected")[0]
    tests = pd.read_csv(MlflowClient().download_artifacts(trial.info.run_id, "tables/probabilities.csv"))
    assert set(tests.loc[tests["split"] == "test", "clip_id"]) == set(np.load(published[1])["file_name"])


def test_our_trees_join_the_published_network_on_its_clips(published: tuple[Path, Path]):
    theirs = published_results.read_probabilities(published[1])
    turned = theirs["xgboost"][["split", "genre", "recording", *reversed(published_results.GENRES)]]
    turned = turned.assign(genre=turned["genre"].cat.reorder_categories(list(reversed(published_results.GENRES))))
    made = _with_published_network(theirs, {"catboost, paper": turned.iloc[::-1]})
    assert set(made) == {"ensemble, paper"}
    names = list(published_results.GENRES)
    pd.testing.assert_frame_equal(made["ensemble, paper"][names], theirs["ensemble"][names])
    other = {"catboost, paper": turned.rename(index=lambda name: f"another {name}")}
    assert _with_published_network(theirs, other) == {} == _with_published_network({}, {"catboost, paper": turned})


def test_paper_refuses_requests_that_it_cannot_fulfil(place: Path):
    with pytest.raises(UsageError, match="nothing to do"):
        reproduce_paper()
    with pytest.raises(DataError, match="there is no"):
        reproduce_paper(probabilities=str(place / "nowhere"))
    with pytest.raises(UsageError, match="the paper trains no 'mel_cnn'"):
        reproduce_paper("table.csv", model="svm,mel_cnn")
