"""Pages of MLflow's user interface: their addresses, and an experiment's description and view of the models.

MLflow has no setting for what an experiment's page shows first. A view saved with the menu "Views" of the page is a tag
of the experiment, which can be set from here. The name of the tag and the form of its value are not documented by
MLflow: they are those of its front-end code, and `tests/tracking/test_experiment_page.py` checks that it still contains
them.
"""

import json
import time
from typing import Any

from mlflow import MlflowClient

from genre.probabilities.tables import Level

#: Key of the view: appended to `VIEW_TAG_PREFIX` it is the tag, and after ``?viewStateShareKey=`` in the address of the
#: experiment's page it opens the view. In the page "Chart view" the models' scores are then shown as bars.
VIEW_KEY = "leaderboard"

#: Prefix of the tags in which MLflow's pages save views.
VIEW_TAG_PREFIX = "mlflow.sharedViewState."

#: Part of an address that opens the pages for models, without those for language models.
TRAINING_PAGES = "workflowType=machine_learning"

#: Name of the view on the page.
VIEW_NAME = "Leaderboard"

#: Columns of the view, in this order, by the level at which models are judged; all but the bounds of the interval have
#: a bar chart too.
LEADERBOARD_METRICS: dict[Level, tuple[str, ...]] = {
    "clip": (
        "test_macro_auc",
        "test_accuracy",
        "test_macro_f1",
        "test_log_loss",
        "fit_seconds",
        "test_macro_auc_low",
        "test_macro_auc_high",
    ),
    "track": (
        "test_track_macro_auc",
        "test_track_accuracy",
        "test_macro_auc",
        "test_accuracy",
        "test_track_macro_f1",
        "test_track_log_loss",
        "fit_seconds",
        "test_track_macro_auc_low",
        "test_track_macro_auc_high",
    ),
}

#: Longest tag of an experiment that MLflow accepts, characters.
MAX_DESCRIPTION = 5000

#: Largest number of models in a bar chart.
MAX_BARS = 20


def set_experiment_page(run_id: str, note: str, *, replace: bool, level: Level = "clip") -> None:
    """Describe the experiment of a run on its page, and give the page the view "Leaderboard".

    Parameters
    ----------
    run_id : str
        A run of the experiment.
    note : str
        Description in Markdown; cut to `MAX_DESCRIPTION` characters.
    replace : bool
        Whether to replace a description that is already there.
    level : {"clip", "track"}
        Level at which the models are judged, and by whose test AUC the view orders them. Default ``clip``.
    """
    client = MlflowClient()
    experiment_id = client.get_run(run_id).info.experiment_id
    client.set_experiment_tag(experiment_id, f"{VIEW_TAG_PREFIX}{VIEW_KEY}", json.dumps(_leaderboard_view(level)))
    if replace or "mlflow.note.content" not in client.get_experiment(experiment_id).tags:
        client.set_experiment_tag(experiment_id, "mlflow.note.content", note[:MAX_DESCRIPTION])


def leaderboard_path(run_id: str) -> str:
    """Return the address of the view "Leaderboard" of a run's experiment, relative to MLflow's pages; empty without."""
    client = MlflowClient()
    experiment = client.get_experiment(client.get_run(run_id).info.experiment_id)
    has_view = f"{VIEW_TAG_PREFIX}{VIEW_KEY}" in experiment.tags
    page = f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey={VIEW_KEY}&{TRAINING_PAGES}"
    return page if has_view else ""


def version_path(name: str, version: str) -> str:
    """Return the address of a registered version's page, relative to MLflow's pages."""
    return f"#/models/{name}/versions/{version}?{TRAINING_PAGES}"


def _leaderboard_view(level: Level) -> dict[str, Any]:
    """Return the view as MLflow's pages save it: models only, ordered by test AUC."""
    now_ms = int(time.time() * 1000)
    names = LEADERBOARD_METRICS[level]
    columns = [f"metrics.`{name}`" for name in names]
    state = {
        "searchFilter": "metrics.test_macro_auc > 0",  # leaves out runs that are not of one model
        "orderByKey": columns[0],
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": columns,
        "columnOrder": columns,
        "compareRunSections": [{"uuid": "board", "name": VIEW_NAME, "display": True, "isReordered": False}],
        "compareRunCharts": [_bar_chart(m) for m in names if not m.endswith(("_low", "_high"))],
    }
    return {"name": VIEW_NAME, "createdAt": now_ms, "updatedAt": now_ms, "state": json.dumps(state)}


def _bar_chart(metric: str) -> dict[str, Any]:
    """Return the bar chart of one metric over the models, in the section of `_leaderboard_view`."""
    return {
        "uuid": metric,
        "type": "BAR",
        "metricKey": metric,
        "metricSectionId": "board",
        "runsCountToCompare": MAX_BARS,
        "isGenerated": False,
        "deleted": False,
    }
