"""A year of weekly retraining that nobody watches, with faults, on music that its owner keeps changing.

Each week the owner adds, renames, encodes anew, relabels or removes some of a synthetic collection, or does nothing,
and ``flows.retrain`` is run as a schedule does, with two quick models and a real MLflow server. In two weeks of five a
fault befalls it: a process is killed, a server or the music's disk is away, the workspace's disk is full. The same
command is then run once more without a fault. Now and then the owner rolls a champion back and lifts the hold weeks
later, and each quarter prunes the workspace, every second time with a kill. Promotions are decided by the rule.
Everything but the moments of the faults, which are drawn as shares of a week's usual duration, follows from the seed.

Claims, checked after every week: see `CLAIMS`. Prints a line per week, the disk's use before and after each prune, and
the growth over the year; the exit status is 1 if a claim fails. The workspace is on a small disk in memory, which is
filled, where one can be mounted; elsewhere a limit on the size of files stands in for a full disk.

    python -m benchmarks.endurance.year                          # 52 weeks
    python -m benchmarks.endurance.year --weeks 6                # a short try
    python -m benchmarks.endurance.year --folder ~/year          # the logs of all commands stay there
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import typer

from benchmarks._shared.collection import Collection
from benchmarks._shared.consistency import Audit
from benchmarks._shared.upkeep import FAULTS, CommandEnd, Household, keep_house
from genre.store.pruning import size_bytes

#: Claims by the name that `Audit` gives to what it finds against them.
CLAIMS = {
    "end": "every command ends in a known state or with a sentence, and leaves no process",
    "next": "after a fault the next command completes",
    "database": "MLflow's database is whole",
    "runs": "no run is left open once a command has completed",
    "registry": "every version and its model exist, the champion loads and predicts, and no lock is left",
    "workspace": "every table of the workspace can be read, and there are no temporary files",
    "splits": "no recording ever changes its split",
    "music": "no command changes a file of the music",
}

#: Tracks per genre at the start; the test split, 15 % of them, then has the least that a promotion needs.
TRACKS_PER_GENRE = 18

#: Share of the weeks in which a fault befalls the command.
FAULTY_SHARE = 0.4

#: Probability that the music changes in a week without a fault; with one it always does.
CHANGE_PROBABILITY = 0.2

#: Probability of each further change in a week in which the music changes.
FURTHER_CHANGE_PROBABILITY = 0.2

#: Weeks between two styles of the new tracks.
STYLE_WEEKS = 8

#: Probability that the owner rolls back in a week in which that is possible, and weeks until the hold is lifted.
ROLLBACK_PROBABILITY = 0.2
HOLD_WEEKS = 2

#: Weeks between two prunes: a quarter.
PRUNE_WEEKS = 13

#: Seconds taken for the usual duration of a command until one that trained has been measured.
FIRST_GUESS_S = 25.0

#: Options of every retraining: two quick models, without folds, and the least change of the schedule in prefect.yaml.
RETRAIN = (
    *("--dataset", "folder", "--model", "logistic_regression,random_forest", "--folds", "0"),
    *("--params", '{"random_forest": {"n_estimators": 50}}', "--min-change", "0.05"),
)


@dataclass(frozen=True)
class Week:
    """Plan of a week: its number from 1, the changes of the music, and the name of a fault, empty for none."""

    number: int
    changes: tuple[str, ...]
    fault: str
    rolls_back: bool


def draw_year(n_weeks: int, changes: list[str], rng: np.random.Generator) -> list[Week]:
    """Draw the plan of a year: faults in turn, in random weeks but the first, and changes of the music."""
    n_faulty = round(FAULTY_SHARE * n_weeks)
    kinds = rng.permutation(list(FAULTS))
    faulty = [*np.resize(kinds, n_faulty), *[""] * (n_weeks - 1 - n_faulty)]
    faults = ["", *rng.permutation(faulty)]
    return [
        Week(n, _draw_changes(n, str(fault), changes, rng), str(fault), bool(rng.random() < ROLLBACK_PROBABILITY))
        for n, fault in enumerate(faults, start=1)
    ]


def _draw_changes(week: int, fault: str, changes: list[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Draw the changes of a week; none in the first one."""
    if week == 1:
        return ()
    if week % STYLE_WEEKS == 0:
        return ("new style",)
    if not fault and rng.random() > CHANGE_PROBABILITY:
        return ()
    further = [name for name in changes if name not in ("new tracks", "new style")]
    return ("new tracks", *(name for name in further if rng.random() < FURTHER_CHANGE_PROBABILITY))


class Year:
    """A year under way.

    Parameters
    ----------
    household : Household
        Workspace and servers.
    collection : Collection
        Music.
    rng : np.random.Generator
        Source of the moments of faults.
    """

    def __init__(self, household: Household, collection: Collection, rng: np.random.Generator) -> None:
        self.household = household
        self.collection = collection
        self.audit = Audit(household)
        self.pruned_mb = dict.fromkeys(measure_disk(household), 0.0)
        self.n_faults = 0
        self._rng = rng
        self._usual_s = FIRST_GUESS_S
        self._hold_until = 0

    def live_through(self, week: Week) -> None:
        """Change the music, retrain, and check everything; print a line."""
        self.audit.when = f"week {week.number}"
        for name in week.changes:
            self.collection.changes[name]()
        ends = [self.run("retrain", *RETRAIN, fault=week.fault)]
        if ends[0].code and ends[0].was_struck:
            ends.append(self.run("retrain", *RETRAIN))
        if ends[-1].code:
            self.audit.add("next", ends[-1].sentence)
        outcome = self.audit.read_outcome()
        self.audit.check(self.collection.example_tracks())
        if outcome not in ("Skipped", "Unchanged") and not week.fault:
            self._usual_s = ends[-1].seconds
        self._print_week(week, ends, outcome)
        self.act_as_owner(week)
        if week.number % PRUNE_WEEKS == 0:
            self.prune(is_killed=week.number % (2 * PRUNE_WEEKS) == 0)

    def run(self, flow: str, *arguments: str, fault: str = "") -> CommandEnd:
        """Run a command, and check its end and the music."""
        source = () if flow == "rollback" else ("--source", str(self.collection.root))
        before = self.collection.digest_files()
        after_s = float(self._rng.uniform(0.5, self._usual_s))
        end = self.household.run(flow, *arguments, *source, fault=FAULTS.get(fault), after_s=after_s)
        self.n_faults += end.was_struck
        self.audit.check_end(end, was_killed=fault == "killed" and end.was_struck)
        if self.collection.digest_files() != before:
            self.audit.add("music", f"{flow} {arguments} changed a file")
        return end

    def act_as_owner(self, week: Week) -> None:
        """Roll the champion back, where there is an earlier one, or lift the hold when its time has come."""
        if self._hold_until:
            if week.number >= self._hold_until:
                self._hold_until = 0
                self._expect_success("rollback", "--lift", "true")
        elif week.rolls_back and self.audit.has_previous():
            self._hold_until = week.number + HOLD_WEEKS
            self._expect_success("rollback")

    def prune(self, *, is_killed: bool) -> None:
        """Remove what is no longer needed, once more after a kill; print the disk's use before and after."""
        arguments = ("archive", "--dataset", "folder", "--action", "prune", "--dry-run", "false")
        before = measure_disk(self.household)
        if is_killed:
            self.run(*arguments, fault="killed")
        self._expect_success(*arguments)
        after = measure_disk(self.household)
        for name, megabytes in after.items():
            self.pruned_mb[name] += before[name] - megabytes
        print(f"  pruned: {describe_disk(before)}; then {describe_disk(after)}", flush=True)
        self.audit.check(self.collection.example_tracks())

    def _expect_success(self, flow: str, *arguments: str) -> None:
        end = self.run(flow, *arguments)
        if end.code:
            self.audit.add("next", end.sentence)
        print(f"  {flow} {' '.join(arguments)}: {end.seconds:.0f} s", flush=True)

    def _print_week(self, week: Week, ends: list[CommandEnd], outcome: str) -> None:
        """Print the week's changes, its fault and how the command ended, and the disk's use."""
        changes = ", ".join(week.changes) or "no change"
        fault = f"; {week.fault}{'' if ends[0].was_struck else ', too late'}" if week.fault else ""
        first = f"; first exit code {ends[0].code}: {ends[0].sentence[:100]}" if len(ends) > 1 else ""
        times = " + ".join(f"{end.seconds:.0f}" for end in ends)
        disk = describe_disk(measure_disk(self.household))
        print(f"week {week.number}: {changes}{fault}{first}; {outcome}, {times} s; {disk}", flush=True)


def measure_disk(household: Household) -> dict[str, float]:
    """Return the disk's use in MB: of the workspace without Prefect's files, of these, and of MLflow's files."""
    prefect = size_bytes(household.home / "prefect")
    sizes = {
        "workspace": size_bytes(household.home) - prefect,
        "Prefect": prefect,
        "artifacts": size_bytes(household.server.artifacts),
        "database": size_bytes(household.server.database),
    }
    return {name: n_bytes / 1e6 for name, n_bytes in sizes.items()}


def describe_disk(megabytes: dict[str, float]) -> str:
    """Return the disk's use as text."""
    return ", ".join(f"{name} {value:.1f}" for name, value in megabytes.items()) + " MB"


def report_year(year: Year, first: dict[str, float]) -> bool:
    """Print the growth since the first week and each claim; return whether all of them hold."""
    last = measure_disk(year.household)
    growth = {name: last[name] - first[name] for name in last}
    unpruned = {name: growth[name] + year.pruned_mb[name] for name in last}
    outcomes = year.audit.outcomes
    print(f"\n{outcomes.total()} weeks, {year.n_faults} faults; outcomes: {dict(outcomes)}")
    print(f"growth since the first week: {describe_disk(growth)}; without pruning {describe_disk(unpruned)}")
    print(f"left in the folder of temporary files: {size_bytes(year.household.temporary) / 1e6:.1f} MB")
    for name, claim in CLAIMS.items():
        found = year.audit.found[name]
        print(f"{'fails' if found else 'holds'}: {claim}")
        for line in found:
            print(f"  {line}")
    return not any(year.audit.found.values())


@contextmanager
def open_folder(folder: Path | None) -> Iterator[Path]:
    """Yield a folder that the user names and that does not exist yet, or a temporary one."""
    if folder is None:
        with TemporaryDirectory() as name:
            yield Path(name)
    else:
        folder = folder.expanduser().resolve()
        folder.mkdir(parents=True)
        yield folder


def main(weeks: int = 52, seed: int = 0, minutes: float = 600, mount: bool = True, folder: Path | None = None) -> None:
    """Live through WEEKS weeks, or those that begin within MINUTES, check the claims, and print the figures."""
    deadline = time.monotonic() + 60 * minutes
    with open_folder(folder) as place:
        collection = Collection(place, seed)
        collection.add_tracks(TRACKS_PER_GENRE)
        rng = np.random.default_rng(seed)
        plan = draw_year(weeks, list(collection.changes), rng)
        with keep_house(place, collection.root, mount=mount) as household:
            os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
            kind = "a disk in memory that is filled" if household.is_mounted else "a limit on the size of files"
            print(f"disk full: {kind}", flush=True)
            year = Year(household, collection, rng)
            year.live_through(plan[0])
            first = measure_disk(household)
            for week in takewhile(lambda week: time.monotonic() < deadline, plan[1:]):
                year.live_through(week)
            is_good = report_year(year, first)
    raise typer.Exit(0 if is_good else 1)


if __name__ == "__main__":
    typer.run(main)
