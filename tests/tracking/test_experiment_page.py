"""The experiment's page: what is stored of it, and that the installed MLflow still reads what is stored."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from genre import evaluate
from tests.support.simulation import two_models
from tracking import experiment_page

#: Keys of the view's state that decide what the page shows first.
STATE_KEYS = ("searchFilter", "orderByKey", "orderByAsc", "selectedColumns", "compareRunCharts", "compareRunSections")


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of an empty store, which the code under test uses too."""
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setattr(experiment_page, "MlflowClient", lambda: client)
    return client


@pytest.mark.parametrize(("level", "first"), [("clip", "test_macro_auc"), ("track", "test_track_macro_auc")])
def test_the_page_keeps_its_description_and_has_a_view_of_logged_metrics(client, tmp_path, level, first):
    """As MLflow's page reads it: an envelope with a name, times and a state, whose columns are metrics that we log."""
    run_id = client.create_run(client.create_experiment("mine", artifact_location=str(tmp_path))).info.run_id
    experiment_page.set_experiment_page(run_id, "note " * 2000, replace=True, level=level)
    experiment_page.set_experiment_page(run_id, "of one model", replace=False, level=level)
    tags = client.get_experiment_by_name("mine").tags
    assert tags["mlflow.note.content"].startswith("note ")
    view = json.loads(tags["mlflow.sharedViewState.leaderboard"])
    assert view["name"] == "Leaderboard" and isinstance(view["createdAt"], int)
    state = json.loads(view["state"])
    _, model = two_models(np.random.default_rng(0), n_clips=60, n_genres=3, skills=(0.5, 2.5))
    logged = {f"metrics.`{name}`" for name in [*evaluate.summarise_scores(model), "fit_seconds"]}
    assert {c for c in state["selectedColumns"] if c.startswith("metrics.")} <= logged
    assert state["orderByKey"] == state["selectedColumns"][0] == f"metrics.`{first}`"
    assert state["orderByAsc"] is False
    sections = [section["uuid"] for section in state["compareRunSections"]]
    assert {f"metrics.`{chart['metricKey']}`" for chart in state["compareRunCharts"]} <= logged
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == set(sections)


def test_mlflows_pages_still_read_the_tag_and_the_keys_of_the_view():
    """None of it is documented: the names must stand in the front-end code of the installed MLflow."""
    build = Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js"
    if not build.is_dir():
        pytest.skip("this MLflow has no pages, such as mlflow-skinny")
    names = {
        experiment_page.VIEW_TAG_PREFIX,
        "viewStateShareKey",
        *experiment_page.TRAINING_PAGES.split("="),
        *STATE_KEYS,
    }
    for path in sorted(build.glob("*.js")):
        code = path.read_text(encoding="utf-8", errors="replace")
        names -= {name for name in names if name in code}
        if not names:
            return
    assert names == set()
