"""Stored predictions for a library."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import soundfile as sf

from genre.config import UNKNOWN
from genre.errors import DataError, UsageError
from genre.library import answers
from genre.library.answers import PredictionStore
from tests.support.sounds import tone

PREDICTION = {"genre": "a", "confidence": 0.6, "probabilities": {"b": 0.4, "a": 0.6}, "error": None}


def library_files(*names: str) -> pd.DataFrame:
    return pd.DataFrame({"path": list(names), "stamp": "1"}, dtype=object)


@pytest.fixture
def store(tmp_path: Path):
    with closing(PredictionStore(tmp_path / "answers.sqlite")) as store:
        yield store


def error_of(path: str, code: str) -> dict:
    return {"path": path, "error": {"code": code, "message": "why"}}


def test_files_without_a_prediction_of_this_model_and_state_are_missing(store):
    both = library_files("/x", os.fsdecode(b"/caf\xe9"))
    store.save_predictions(both, "m/1", [PREDICTION | {"path": path} for path in both["path"]])
    assert store.find_missing(both, "m/1").empty
    assert len(store.find_missing(both, "m/2")) == 2
    assert store.find_missing(both.assign(stamp=["1", "2"]), "m/1")["path"].tolist() == [both["path"][1]]
    store.update_stamp(both["path"][1], "2")
    assert store.find_missing(both.assign(stamp=["1", "2"]), "m/1").empty


def test_files_with_a_passing_error_are_predicted_again(store):
    codes = ["undecodable", "crashed", *answers.RETRIED_ERRORS]
    failed = library_files(*codes)
    store.save_predictions(failed, "m/1", [error_of(code, code) for code in codes])
    assert store.find_missing(failed, "m/1")["path"].tolist() == list(answers.RETRIED_ERRORS)
    first = next(store.iter_predictions(codes, "m/1"))
    assert (first["error"], first["message"], first["genre"], first["probabilities"]) == (
        "undecodable",
        "why",
        None,
        None,
    )


def test_the_note_of_a_prediction_is_kept(store):
    noted = PREDICTION | {"path": "/x", "note": "the louder channel was analysed"}
    store.save_predictions(library_files("/x", "/y"), "m/1", [noted, PREDICTION | {"path": "/y"}])
    notes = [prediction["note"] for prediction in store.iter_predictions(["/x", "/y"], "m/1")]
    assert notes == ["the louder channel was analysed", None]


def test_a_database_from_before_there_were_notes_keeps_its_predictions(tmp_path):
    path = tmp_path / "answers.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE answers (path BLOB NOT NULL, model TEXT NOT NULL, stamp TEXT NOT NULL, genre TEXT, "
            "confidence REAL, probabilities TEXT, code TEXT, message TEXT, PRIMARY KEY (path, model)) WITHOUT ROWID"
        )
        row = (b"/old", "m/1", "1", "a", 0.6, '{"b": 0.4, "a": 0.6}', None, None)
        db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    for _ in range(2):  # the second time, the column is there
        with closing(PredictionStore(path)) as store:
            new = library_files("/new")
            store.save_predictions(new, "m/1", [PREDICTION | {"path": "/new", "note": "why"}])
            assert store.find_missing(library_files("/old", "/new"), "m/1").empty
            old, new = store.iter_predictions(["/old", "/new"], "m/1")
            assert (old["genre"], old["note"], new["genre"], new["note"]) == ("a", None, "a", "why")


def test_another_min_confidence_needs_no_new_prediction(store):
    store.save_predictions(library_files("/x"), "m/1", [PREDICTION | {"path": "/x", "genre": UNKNOWN}])
    genres = {c: next(store.iter_predictions(["/x"], "m/1", c))["genre"] for c in (-1.0, 0.0, 0.6, 0.61)}
    assert genres == {-1.0: UNKNOWN, 0.0: "a", 0.6: "a", 0.61: UNKNOWN}
    assert store.list_genres("m/1") == ["a", "b"] and store.list_genres("m/2") == []


def test_audio_files_are_listed_at_any_depth(tmp_path):
    (tmp_path / "d" / "e").mkdir(parents=True)
    for name in ("d/e/a.WAV", "b.mp3", ".hidden.mp3", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "link.mp3").symlink_to(tmp_path / "b.mp3")
    (tmp_path / "dangling.mp3").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.mp3").mkdir()
    listed = answers.list_library(tmp_path)
    assert [Path(path).name for path in listed["path"]] == ["b.mp3", "a.WAV", "link.mp3"]
    for wrong, message in ((tmp_path / "b.mp3", "is a file, not a folder"), (tmp_path / "folder.mp3", "no audio in")):
        with pytest.raises(DataError, match=message):
            answers.list_library(wrong)


def test_n_jobs_of_zero_is_refused(tmp_path):
    sf.write(tmp_path / "a.wav", tone(1, hz=300), 22050)
    with pytest.raises(UsageError, match="n_jobs must be"):
        list(answers.predict_files(answers.list_library(tmp_path), tmp_path, n_jobs=0))
