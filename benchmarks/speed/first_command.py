"""The first command after installation, ``mlflow run . --env-manager local``, against that of another commit.

Prints, for both, the seconds by the clock, the processor time of all processes, their peak memory together, and the
ratios; then the seconds of each stage. The rounds alternate. Each is run in a copy of the checkout, without compiled
files, with an empty workspace, store, home and cache of numba, as after installation; the libraries' own compiled files
are there. The other checkout has an environment of its own, since the two need different libraries:

    git worktree add ../before 4f44e01
    (cd ../before && python3.11 -m venv .venv && .venv/bin/pip install -r requirements.txt)
    python -m benchmarks.speed.first_command ../before
    python -m benchmarks.speed.first_command ../before --rounds 1    # eight minutes

Peak memory is sampled twice a second: PSS, in which processes share what they have in common, and RSS, in which each
counts it. The weights of the music network are downloaded where that is part of the command; GENRE_WEIGHTS, the path of
its wheel, takes the network out of the measurement.
"""

import os
import re
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import psutil
import typer

from benchmarks._shared import measure

#: What a copy of a checkout leaves out: environments, what commands have written, and compiled files.
NOT_COPIED = (".git", ".venv", "workspace", "mlruns", "mlflow.db", "__pycache__", ".*_cache")

#: Seconds between two samples of the memory.
SAMPLE_INTERVAL_S = 0.5


@dataclass(frozen=True)
class Run:
    """Figures of one run: seconds, megabytes, and the seconds of each stage."""

    wall_s: float
    cpu_s: float
    pss_mb: float
    rss_mb: float
    stages: dict[str, float]


class PeakMemory:
    """Largest memory of a process and its descendants together, sampled by a thread until the process ends, MB."""

    def __init__(self, process: psutil.Process) -> None:
        self.pss_mb = 0.0
        self.rss_mb = 0.0
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more samples."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_INTERVAL_S):
            memory = []
            with suppress(psutil.Error):  # the process has ended
                for process in [self._process, *self._process.children(recursive=True)]:
                    with suppress(psutil.Error):
                        memory.append(process.memory_full_info())
            self.pss_mb = max(self.pss_mb, sum(m.pss for m in memory) / 1e6)
            self.rss_mb = max(self.rss_mb, sum(m.rss for m in memory) / 1e6)


def copy_checkout(checkout: Path, folder: Path) -> Path:
    """Copy a checkout into a folder that does not exist yet, and link its environment."""
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    (folder / ".venv").symlink_to((checkout / ".venv").resolve())
    return folder


def make_environment(folder: Path, binaries: Path) -> dict[str, str]:
    """Return an environment in which everything that a command keeps is in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PREFECT_", "PYTHON"))}
    (folder / "home").mkdir(parents=True)
    return kept | {
        "HOME": str(folder / "home"),
        "GENRE_HOME": str(folder / "workspace"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
    }


def run_first_command(checkout: Path) -> Run:
    """Run the first command in a copy of a checkout.

    Raises
    ------
    typer.Exit
        If it fails; the end of its output is printed.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        copy = copy_checkout(checkout, folder / "project")
        binaries = copy / ".venv" / "bin"
        command = [str(binaries / "mlflow"), "run", ".", "--env-manager", "local"]
        log = folder / "log"
        with log.open("w") as output:
            started = time.perf_counter()
            environment = make_environment(folder / "kept", binaries)
            process = subprocess.Popen(command, cwd=copy, env=environment, stdout=output, stderr=subprocess.STDOUT)
            memory = PeakMemory(psutil.Process(process.pid))
            _, status, usage = os.wait4(process.pid, 0)  # with the processor time of all that it waited for
            elapsed = time.perf_counter() - started
        memory.stop()
        text = log.read_text()
        if status:
            print(text[-3000:])
            raise typer.Exit(1)
        logged = "".join(Path(path).read_text() for path in re.findall(r"^log: (.+)$", text, flags=re.MULTILINE))
        cpu_s = usage.ru_utime + usage.ru_stime
        return Run(elapsed, cpu_s, memory.pss_mb, memory.rss_mb, parse_stages(text + logged))


def parse_stages(text: str) -> dict[str, float]:
    """Return the seconds of each stage from the last such table in a command's output and log."""
    table = re.split(r"^ *stage +seconds.*$", text, flags=re.MULTILINE)[-1]
    rows = re.findall(r"^ *(\w+) +([\d.]+)", table.partition("peak memory")[0], flags=re.MULTILINE)
    return {stage: float(seconds) for stage, seconds in rows}


def compare_figures(runs: dict[str, list[Run]]) -> pd.DataFrame:
    """Return the medians of both checkouts and, of the ratio, median and range over the rounds."""
    rows = {}
    for field in ("wall_s", "cpu_s", "pss_mb", "rss_mb"):
        values = pd.DataFrame({name: [getattr(run, field) for run in of_one] for name, of_one in runs.items()})
        ratios = values["now"] / values["before"]
        rows[field] = {
            **values.median().round(1),
            "ratio": f"{ratios.median():.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
        }
    return pd.DataFrame(rows).T


def compare_stages(runs: dict[str, list[Run]]) -> pd.DataFrame:
    """Return the median of each stage's seconds by both checkouts, in the order of the stages now."""
    medians = {name: pd.DataFrame([run.stages for run in of_one]).median() for name, of_one in runs.items()}
    stages = dict.fromkeys([*medians["now"].index, *medians["before"].index])
    return pd.DataFrame(medians).reindex(list(stages)).round(1)


def main(before: Path, rounds: int = 3) -> None:
    """Measure and print."""
    checkouts = {"before": before.resolve(), "now": Path.cwd()}
    runs: dict[str, list[Run]] = {name: [] for name in checkouts}
    print(f"{measure.describe_cpu()}; {os.cpu_count()} cores; {rounds} rounds", flush=True)
    for number in range(rounds):
        for name, checkout in checkouts.items():
            run = run_first_command(checkout)
            runs[name].append(run)
            print(
                f"round {number + 1}, {name}: {run.wall_s:.0f} s by the clock, {run.cpu_s:.0f} s of processor time",
                flush=True,
            )
    print(f"\n{compare_figures(runs).to_string()}\n\n{compare_stages(runs).to_string(na_rep='')}")


if __name__ == "__main__":
    typer.run(main)
