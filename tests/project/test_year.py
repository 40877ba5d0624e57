"""The benchmark of a year finds what is wrong, and its music changes as it is asked to."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from benchmarks._shared.collection import GENRES, Collection
from benchmarks._shared.consistency import Audit
from benchmarks._shared.upkeep import FAULTS, CommandEnd
from benchmarks.endurance.year import CLAIMS, draw_year
from genre.files import write_table


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    """Audit of an empty workspace and a store that was not used yet."""
    before = mlflow.get_tracking_uri()
    database = tmp_path / "mlflow.db"
    server = SimpleNamespace(url=f"sqlite:///{database}", database=database, artifacts=tmp_path / "artifacts")
    yield Audit(SimpleNamespace(home=tmp_path / "home", server=server))
    mlflow.set_tracking_uri(before)


def fill(folder: Path) -> None:
    """Write a workspace and a store without faults, with a version whose files are there."""
    client = MlflowClient()
    client.create_registered_model("genre")
    run = client.create_run("0")
    client.set_terminated(run.info.run_id)
    client.create_model_version("genre", "m-1", run.info.run_id)
    (folder / "artifacts/0/models/m-1").mkdir(parents=True)
    (folder / "artifacts/0/models/m-1/MLmodel").write_text("flavors: {}")
    write_table(folder / "home/music/clips.parquet", pd.DataFrame({"x": range(1000)}))
    assign(folder, ["train", "test"])


def assign(folder: Path, splits: list[str]) -> None:
    write_table(folder / "home/music/dealt.parquet", pd.DataFrame({"recording": ["a", "b"], "split": splits}))


def damage(path: Path) -> None:
    """Overwrite the second half of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def damage_database(folder: Path) -> None:
    """Let an index of the database lack a row that its table has."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        database.execute("CREATE TABLE t (x UNIQUE)")
        database.execute("INSERT INTO t VALUES (1)")
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE t (x UNIQUE, y NOT NULL)' WHERE name = 't'")
    database.close()


#: What is done, one after the other, to the workspace and the store, by the claim that it is against.
WRONG = [
    ("runs", lambda folder: MlflowClient().create_run("0")),
    ("registry", lambda folder: MlflowClient().create_registered_model("genre.promotion")),
    ("registry", lambda folder: (folder / "artifacts/0/models/m-1/MLmodel").unlink()),
    ("registry", lambda folder: MlflowClient().set_registered_model_tag("genre", "last_champion", "1")),
    ("workspace", lambda folder: (folder / "home/music/x.tmp").touch()),
    ("workspace", lambda folder: damage(folder / "home/music/clips.parquet")),
    ("splits", lambda folder: assign(folder, ["test", "test"])),
    ("database", damage_database),
]


def test_the_audit_finds_what_is_wrong(audit: Audit, tmp_path: Path):
    fill(tmp_path)
    audit.check([])
    assert audit.found == {}
    before: dict[str, list[str]] = {}
    for claim, do_wrong in WRONG:
        do_wrong(tmp_path)
        audit.found.clear()
        audit.check([])
        assert len(audit.found[claim]) == len(before.get(claim, [])) + 1, claim
        assert set(audit.found) <= {claim, *before}, claim
        before = dict(audit.found)


@pytest.mark.parametrize(
    ("code", "text", "was_killed", "is_known"),
    [
        (0, "Finished", False, True),
        (1, "error: the disk is full\n--- Error logging to API ---\n", False, True),
        (1, "Traceback (most recent call last):\nValueError: error: none\n", False, False),
        (-9, "", True, True),
        (-9, "", False, False),
        (128, "error: none", False, False),
    ],
)
def test_an_end_is_known_by_code_and_sentence(code: int, text: str, was_killed: bool, is_known: bool, audit: Audit):
    audit.check_end(CommandEnd(code, text, 1.0, True, []), was_killed=was_killed)
    assert bool(audit.found) != is_known


def test_a_process_that_is_left_is_found(audit: Audit):
    audit.check_end(CommandEnd(0, "", 1.0, False, ["python worker"]), was_killed=False)
    assert list(audit.found) == ["end"] and set(audit.found) <= set(CLAIMS)


def test_a_year_has_every_fault_and_begins_without_one():
    plan = draw_year(52, ["new tracks", "new style", "another genre"], np.random.default_rng(0))
    assert [week.number for week in plan] == list(range(1, 53))
    assert {week.fault for week in plan} == {"", *FAULTS} and plan[0].fault == ""
    assert all(week.changes for week in plan if week.fault)


def test_the_music_changes_as_it_is_asked_to(tmp_path: Path):
    collection = Collection(tmp_path, seed=0)
    collection.add_tracks(4)
    kept = set(collection.digest_files().values())
    for name, n_files in {"files renamed": 12, "artist renamed": 12, "another genre": 12, "tracks vanish": 11}.items():
        collection.changes[name]()
        files = collection.digest_files()
        assert len(files) == n_files and set(files.values()) <= kept, name
    for name, n_files in {
        "tracks are back": 12,
        "an empty file": 13,
        "bad files removed": 12,
        "new tracks": 15,
    }.items():
        collection.changes[name]()
        assert len(collection.digest_files()) == n_files, name
    assert [path.relative_to(collection.root).parts[0] for path in collection.example_tracks()] == list(GENRES)
