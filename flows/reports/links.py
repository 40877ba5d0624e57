"""Addresses of the pages with a flow's results: printed at its end, and links in the description of its run."""

import shlex

import mlflow
from mlflow import MlflowClient
from prefect.runtime import flow_run
from prefect.utilities.urls import url_for

from genre.errors import hide_secrets
from tracking import experiment_page, registry, runs
from tracking.store import DEFAULT_URI

#: Port of ``mlflow ui`` in the addresses, where MLflow is only a database.
PORT = 5000


def publish_links(run_id: str, registry_name: str = "", figure: str = "") -> str:
    """Put links to the leaderboard, the champion, a figure and the Prefect run first in a run's description.

    Parameters
    ----------
    run_id : str
        Run of the flow, whose description is final.
    registry_name : str
        Registered model whose champion is linked; empty for none.
    figure : str
        Name of a figure of the run that is linked; empty for none.

    Returns
    -------
    str
        The same addresses, and that of the run, as lines for the terminal.
    """
    pages = _find_pages(run_id, registry_name, figure)
    links = " · ".join(f"[{title}]({address})" for title, address in pages.items())
    client = MlflowClient()
    note = client.get_run(run_id).data.tags.get("mlflow.note.content", "")
    client.set_tag(run_id, "mlflow.note.content", f"{links}\n\n{note}".strip())
    return _format_addresses(pages | {"this run": runs.run_path(run_id)})


def _find_pages(run_id: str, registry_name: str, figure: str) -> dict[str, str]:
    """Return the pages that there are by their titles; those of MLflow are relative, and so right on every host."""
    champion = registry.find_version_by_alias(registry_name, "champion") if registry_name else None
    flow_run_id = flow_run.id
    pages = {
        "leaderboard": experiment_page.leaderboard_path(run_id),
        "champion": experiment_page.version_path(champion.name, champion.version) if champion else "",
        "figure": f"{runs.run_path(run_id)}/artifacts/figures/{figure}.png" if figure else "",
        "Prefect run": hide_secrets((url_for("flow-run", flow_run_id) if flow_run_id else None) or ""),
    }
    return {title: address for title, address in pages.items() if address}


def _format_addresses(pages: dict[str, str]) -> str:
    """Return a line per page with its whole address, below the command that serves MLflow's pages if one is needed."""
    base = runs.pages_url()
    head = "To see it in a browser:" if base else f"To see it in a browser, start `{_ui_command()}`, then open"
    base = base or f"http://127.0.0.1:{PORT}"
    lines = [f"  {title:<12} {f'{base}/' * address.startswith('#')}{address}" for title, address in pages.items()]
    return "\n".join([head, *lines])


def _ui_command() -> str:
    """Return the command that serves the pages of MLflow's database; a password stays in the user's shell."""
    uri = mlflow.get_tracking_uri()
    shown = shlex.quote(uri) if hide_secrets(uri) == uri else '"$MLFLOW_TRACKING_URI"'
    return f"mlflow ui --port {PORT}" + ("" if uri == DEFAULT_URI else f" --backend-store-uri {shown}")
