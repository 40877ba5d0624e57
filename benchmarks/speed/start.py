"""Time until a command with nothing to do, a help text or a mistake is answered, against an earlier checkout.

The earlier checkout is a folder made by, for instance, ``git worktree add ../before 4f44e01``, with an environment of
its own in ``.venv``. Both train the demo first, each in a temporary workspace, in a few minutes. Prints the seconds of
each command by the clock and of CPU, the median and the range over the rounds, and the ratios.

    python -m benchmarks.speed.start ../before
    python -m benchmarks.speed.start ../before --model svm --rounds 1    # less to train
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import pandas as pd
import typer

MLFLOW_RUN = ("-m", "mlflow", "run", ".", "--env-manager", "local")

#: Commands to time, as arguments of Python; the first one also prepares. MODEL stands for the models.
COMMANDS = {
    "nothing to do, mlflow run": (*MLFLOW_RUN, "-P", "model=MODEL"),
    "nothing to do, flows.build": ("-m", "flows.build"),
    "help": ("-m", "flows.build", "--help"),
    "wrong path": ("-m", "flows.tag", "--source", "/nowhere"),
    "wrong path, mlflow run": (*MLFLOW_RUN, "-e", "tag", "-P", "source=/nowhere"),
    "import mlflow.cli": ("-c", "import mlflow.cli"),
}

#: Variables that would move a command's workspace or its servers.
OTHERS = ("GENRE_", "MLFLOW_", "PREFECT_")


class Checkout:
    """Checkout with an environment, and a workspace for its commands.

    Parameters
    ----------
    directory : Path
        Folder of the checkout.
    python : Path
        Python of its environment.
    workspace : Path
        Temporary folder of its data and its MLflow store.
    """

    def __init__(self, directory: Path, python: Path, workspace: Path) -> None:
        workspace.mkdir()
        self.directory = directory
        self.python = python
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}
        self.environment = kept | {
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",  # MLproject's commands begin with python
            "GENRE_HOME": str(workspace / "home"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{workspace}/mlflow.db",
        }

    def time(self, arguments: tuple[str, ...], model: str) -> dict[str, float]:
        """Return the seconds that a command takes, by the clock and of CPU, with all processes that it waits for."""
        command = [str(self.python), *(argument.replace("MODEL", model) for argument in arguments)]
        before = _children_seconds()
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.directory, env=self.environment, capture_output=True, text=True)
        seconds = {"clock": time.perf_counter() - start, "CPU": _children_seconds() - before}
        is_mistake = any("/nowhere" in argument for argument in arguments)
        if bool(done.returncode) != is_mistake:  # another answer is no measure of this one
            raise SystemExit(f"{command} in {self.directory}: exit status {done.returncode}\n{done.stderr[-2000:]}")
        return seconds


def _children_seconds() -> float:
    """Return the CPU seconds of all processes that were started and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_commands(checkouts: Mapping[str, Checkout], model: str, rounds: int) -> pd.DataFrame:
    """Time every command in every checkout, in turn.

    Returns
    -------
    pd.DataFrame
        Columns ``command``, ``checkout``, ``round``, ``clock`` and ``CPU``, seconds.
    """
    rows = [
        {"command": name, "checkout": which, "round": n, **checkout.time(arguments, model)}
        for n in range(rounds)
        for name, arguments in COMMANDS.items()
        for which, checkout in checkouts.items()
    ]
    return pd.DataFrame(rows)


def tabulate(times: pd.DataFrame) -> pd.DataFrame:
    """Return the median seconds per command and checkout, and the ratios of this checkout to the earlier one."""
    shown = {}
    for unit in ("clock", "CPU"):
        seconds = times.pivot_table(unit, ["command", "round"], "checkout", sort=False)
        for which in seconds:
            shown[f"{which}, {unit} s"] = seconds[which].groupby("command", sort=False).median().round(2)
        if "earlier" in seconds:
            ratios = (seconds["this"] / seconds["earlier"]).groupby("command", sort=False)
            texts = [f"{r.median():.2f} [{r.min():.2f}, {r.max():.2f}]" for _, r in ratios]
            shown[f"ratio, {unit}"] = pd.Series(texts, list(ratios.groups))
    return pd.DataFrame(shown).loc[list(COMMANDS)]


def main(
    against: Annotated[Path | None, typer.Argument()] = None,
    rounds: int = 5,
    model: Annotated[str, typer.Option(help="Models of the demo.")] = "fast",
) -> None:
    """Train the demo with MODEL in both checkouts, then time each command ROUNDS times in turn."""
    with TemporaryDirectory() as name:
        checkouts = {"this": Checkout(Path.cwd(), Path(sys.executable), Path(name) / "this")}
        if against:
            directory = against.expanduser().absolute()
            checkouts["earlier"] = Checkout(directory, directory / ".venv/bin/python", Path(name) / "earlier")
        for checkout in checkouts.values():
            checkout.time(COMMANDS["nothing to do, mlflow run"], model)
            checkout.time(COMMANDS["nothing to do, mlflow run"], model)  # what the first run left, such as a figure
        print(tabulate(measure_commands(checkouts, model, rounds)).to_string())


if __name__ == "__main__":
    typer.run(main)
