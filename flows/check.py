"""Table of what is ready on this machine: ``python -m flows.check``."""

import sys
from typing import Annotated

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ModuleNotFoundError as error:  # the first thing to be wrong, and no table can be printed without them
    sys.exit(
        f"error: {error.name} is not installed for {sys.executable}; "
        'in the project folder, activate the environment: ". .venv/bin/activate"'
    )

from flows.readiness.findings import State, look
from genre.errors import exit_on_error, hide_secrets

#: What is looked at, and the function that does so.
LOOKS = {
    "Python": "flows.readiness.installation:look_at_python",
    "packages": "flows.readiness.installation:look_at_packages",
    "mlflow run": "flows.readiness.installation:look_at_environment_managers",
    "disk": "flows.readiness.places:look_at_disk",
    "write access": "flows.readiness.places:look_at_write_access",
    "MLflow": "flows.readiness.services:look_at_mlflow",
    "Prefect": "flows.readiness.services:look_at_prefect",
    "ports": "flows.readiness.services:look_at_ports",
    "weights": "flows.readiness.computing:look_at_weights",
    "decoders": "flows.readiness.computing:look_at_decoders",
}

#: Colour of each state.
COLOURS = {State.READY: "green", State.NOTE: "yellow", State.PROBLEM: "red"}


def check(
    gpu: Annotated[bool, typer.Option("--gpu", help="Ask Keras for a GPU as well, which takes half a minute.")] = False,
) -> None:
    """Show what is ready on this machine and what to do about the rest; exit with 1 if something is a problem."""
    gpu_look = "look_at_gpu" if gpu else "suggest_gpu"
    with Console(stderr=True).status("looking ..."):  # shown on a terminal only
        findings = list(look(LOOKS | {"GPU": f"flows.readiness.computing:{gpu_look}"}))
    table = Table("what", "state", "what was found, and what to do")
    for finding in findings:
        table.add_row(finding.what, f"[{COLOURS[finding.state]}]{finding.state}", escape(hide_secrets(finding.text)))
    Console().print(table)
    sys.exit(any(finding.state is State.PROBLEM for finding in findings))


if __name__ == "__main__":
    with exit_on_error():
        typer.run(check)
