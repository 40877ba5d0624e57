"""Checks that a workspace and an MLflow server are consistent after a command."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from benchmarks._shared.music import make_clips_table
from benchmarks._shared.upkeep import ERROR, CommandEnd, Household
from genre.config import AudioConfig
from genre.errors import GenreError
from tracking import aliases, registry, scoring

#: Outcomes of a retraining.
OUTCOMES = ("Promoted", "Refused", "Undecided", "Unchanged", "Skipped")

#: Registered model of the commands, by default.
NAME = "genre"

#: Largest distance from 1 of the sum of a clip's probabilities.
MAX_SUM_ERROR = 1e-5


class Audit:
    """What was found against each claim.

    Parameters
    ----------
    household : Household
        Workspace and servers to check.

    Attributes
    ----------
    found : dict
        Name of a claim to the sentences against it.
    outcomes : Counter
        Number of retrainings by outcome.
    when : str
        Time of what is checked, for the sentences.
    """

    def __init__(self, household: Household) -> None:
        self.found: dict[str, list[str]] = defaultdict(list)
        self.outcomes: Counter[str] = Counter()
        self._household = household
        self._splits: dict[str, str] = {}
        self._scored: list[object] = []
        self.when = ""
        mlflow.set_tracking_uri(household.server.url)

    def add(self, claim: str, sentence: str) -> None:
        """Add a sentence against a claim, and print it."""
        self.found[claim].append(f"{self.when}: {sentence}")
        print(f"  against the claim on {claim}: {sentence}", flush=True)

    def check_end(self, end: CommandEnd, *, was_killed: bool) -> None:
        """Check how a command ended: with success, with a sentence, or as it was killed."""
        is_known = end.code == 0 or (end.code == 1 and end.sentence.startswith(ERROR))
        if not is_known and not (was_killed and end.code < 0):
            self.add("end", f"exit code {end.code}, last line {end.sentence!r}")
        for line in end.survivors:
            self.add("end", f"left running: {line}")

    def read_outcome(self) -> str:
        """Return the outcome of the last retraining, which has completed."""
        query = "attributes.run_name LIKE 'retrain%'"
        found = MlflowClient().search_runs(
            _experiments(), query, max_results=1, order_by=["attributes.start_time DESC"]
        )
        outcome = str(found[0].data.tags.get("outcome")) if found else "none"
        self.outcomes[outcome] += 1
        if outcome not in OUTCOMES:
            self.add("end", f"the outcome is {outcome}")
        return outcome

    def has_previous(self) -> bool:
        """Return whether there is an earlier champion to roll back to."""
        return registry.find_version_by_alias(NAME, "previous") is not None

    def check(self, examples: Sequence[Path]) -> None:
        """Check MLflow's store and the workspace, which no command uses; `examples` are tracks to predict."""
        self._check_database()
        self._check_runs()
        self._check_registry()
        self._check_champion(examples)
        self._check_workspace()
        self._check_splits()

    def _check_database(self) -> None:
        with closing(sqlite3.connect(f"file:{self._household.server.database}?mode=ro", uri=True)) as database:
            lines = [row[0] for row in database.execute("PRAGMA integrity_check")]
        if lines != ["ok"]:
            self.add("database", "; ".join(lines))

    def _check_runs(self) -> None:
        for run in MlflowClient().search_runs(_experiments(), "attributes.status = 'RUNNING'"):
            self.add("runs", f"{run.info.run_name} ({run.info.run_id}) is still RUNNING")

    def _check_registry(self) -> None:
        """Check that versions are complete and have their model, and that no lock is left."""
        client = MlflowClient()
        for model in client.search_registered_models():
            if model.name.endswith(aliases.LOCK_SUFFIX):
                self.add("registry", f"the lock {model.name} is left")
        for version in client.search_model_versions(f"name = '{NAME}'"):
            if version.status != "READY" or not self._model_files(version):
                self.add("registry", f"version {version.version} is {version.status}, or its files are gone")

    def _check_champion(self, examples: Sequence[Path]) -> None:
        """Check that there is still a champion if there ever was one, and score it unless its files are as before."""
        champion = registry.find_version_by_alias(NAME, "champion")
        if (str(champion.version) if champion else "") != registry.read_model_tag(NAME, registry.LAST_CHAMPION):
            self.add("registry", "the champion is not the version that was the last one")
        if champion is None or self._scored == (state := [champion.version, *self._model_files(champion)]):
            return
        clips = make_clips_table(list(examples))
        try:
            scored = scoring.score_clips(registry.version_uri(NAME, champion.version), clips, AudioConfig())
        except GenreError as error:
            self.add("registry", str(error))
            return
        self._scored = state
        if not np.allclose(scored.sum(axis=1), 1, atol=MAX_SUM_ERROR) or len(scored) != len(clips):
            self.add("registry", f"version {champion.version} predicts {scored.to_dict()}")

    def _model_files(self, version: ModelVersion) -> list[tuple[str, int, int]]:
        """Return name, size and time of the files of a version's model; empty if it is gone."""
        model_id = str(version.source).removeprefix("models:/")
        folders = self._household.server.artifacts.glob(f"*/models/{model_id}")
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]

    def _check_workspace(self) -> None:
        """Check that every table and every JSON file can be read, and that there are no temporary files."""
        home = self._household.home
        for path in home.rglob("*.tmp"):
            self.add("workspace", f"{path.relative_to(home)} is left")
        readers = {".parquet": pd.read_parquet, ".json": lambda path: json.loads(path.read_text())}
        for path in (p for p in home.rglob("*") if p.suffix in readers):
            try:
                readers[path.suffix](path)
            except (OSError, ValueError) as error:
                self.add("workspace", f"{path.relative_to(home)} cannot be read: {error}")

    def _check_splits(self) -> None:
        """Check that every recording that was ever assigned still has its split."""
        for path in self._household.home.glob("*/dealt.parquet"):
            table = pd.read_parquet(path)
            now = dict(zip(table["recording"], table["split"], strict=True))
            if moved := [name for name, split in self._splits.items() if now.get(name) != split]:
                self.add("splits", f"{len(moved)} recordings have another split or none, the first {moved[0]!r}")
            self._splits |= now


def _experiments() -> list[str]:
    return [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
