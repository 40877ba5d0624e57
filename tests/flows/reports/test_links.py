"""Addresses of the pages with a flow's results: as they are printed, in the run's description, and in a browser."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from flows.reports.links import publish_links
from tests.support.browser import chromium
from tests.support.mlflow_server import MlflowServer
from tracking import experiment_page

CHAMPION = "#/models/genre/versions/1?workflowType=machine_learning"
LEADERBOARD = "#/experiments/1/runs?viewStateShareKey=leaderboard&workflowType=machine_learning"


@pytest.fixture(autouse=True)
def tracking_uri() -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


def make_run(uri: str, folder: Path) -> str:
    """Log a model, make a champion, and describe the experiment in an empty store; return the run of the flow."""
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    experiment = client.create_experiment("mine", artifact_location=folder.as_uri())
    parent = client.create_run(experiment, run_name="promote mine").info.run_id
    model = client.create_run(experiment, run_name="svm").info.run_id
    client.log_metric(model, "test_macro_auc", 0.75)
    experiment_page.set_experiment_page(parent, "Data set mine.", replace=True)
    client.set_tag(parent, "mlflow.note.content", "Data set mine.")
    client.create_registered_model("genre")
    source = f"{client.get_run(model).info.artifact_uri}/model"
    client.create_model_version("genre", source, model, description="**Test scores per track**: good")
    client.set_registered_model_alias("genre", "champion", "1")
    return parent


def test_a_database_gets_the_command_that_serves_its_pages(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run_id = make_run(uri, tmp_path)
    assert publish_links(run_id, "genre").splitlines() == [
        f"To see it in a browser, start `mlflow ui --port 5000 --backend-store-uri {uri}`, then open",
        f"  leaderboard  http://127.0.0.1:5000/{LEADERBOARD}",
        f"  champion     http://127.0.0.1:5000/{CHAMPION}",
        f"  this run     http://127.0.0.1:5000/#/experiments/1/runs/{run_id}",
    ]
    note = MlflowClient().get_run(run_id).data.tags["mlflow.note.content"]
    assert note == f"[leaderboard]({LEADERBOARD}) · [champion]({CHAMPION})\n\nData set mine."


def test_the_projects_own_database_needs_no_address(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setattr("flows.reports.links.DEFAULT_URI", uri)
    assert "start `mlflow ui --port 5000`, then open\n" in publish_links(make_run(uri, tmp_path))


def test_what_there_is_not_has_no_address(tmp_path):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client = MlflowClient()
    run_id = client.create_run(client.create_experiment("mine")).info.run_id
    lines = publish_links(run_id, "genre").splitlines()
    assert [line.split()[0] for line in lines] == ["To", "this"]


def test_a_figure_of_the_run_is_linked(tmp_path):
    run_id = make_run(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    page = f"#/experiments/1/runs/{run_id}/artifacts/figures/study.png"
    assert f"\n  figure       http://127.0.0.1:5000/{page}\n" in publish_links(run_id, figure="study")
    assert f" · [figure]({page})\n" in MlflowClient().get_run(run_id).data.tags["mlflow.note.content"]


def test_a_servers_pages_open_in_a_browser_and_its_password_is_not_shown(tmp_path: Path, mlflow_server: MlflowServer):
    uri = f"http://listener:kingfisher@127.0.0.1:{mlflow_server.port}"
    run_id = make_run(mlflow_server.url, tmp_path)
    mlflow.set_tracking_uri(uri)
    text = publish_links(run_id, "genre")
    assert "kingfisher" not in text and text.startswith("To see it in a browser:\n")
    with chromium() as browser:
        tab = browser.new_page()
        tab.set_default_timeout(60_000)
        tab.goto(f"{mlflow_server.url}/#/experiments/1/runs/{run_id}")
        tab.get_by_text("Data set mine.").wait_for()
        for title, shown in (("leaderboard", "metrics.test_macro_auc > 0"), ("champion", "Test scores per track")):
            with browser.contexts[0].expect_page() as opened:  # from the links in the run's description
                tab.get_by_role("link", name=title, exact=True).click()
            page = opened.value
            page.wait_for_function(
                "text => [document.body.innerText, ...[...document.querySelectorAll('input')]"
                ".map(input => input.value)].some(part => part.includes(text))",
                arg=shown,
            )
