"""The log of answers, and whether what was asked still looks like what was learnt."""

import json
import logging
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

from genre import answer_log
from genre.config import AudioConfig
from genre.inputs.features import FEATURE_NAMES, extract_features
from genre.studies import drift
from tests.support.project import ROOT
from tests.support.sounds import tone

CONFIG = AudioConfig()
ROW = np.arange(len(FEATURE_NAMES), dtype=np.float32)


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Folder of a log that is switched on."""
    monkeypatch.setenv("GENRE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def normal(n, *, seed=0, shift=0.0):
    values = np.random.default_rng(seed).normal(shift, 1, (n, len(FEATURE_NAMES))).astype(np.float32)
    return pd.DataFrame(values, columns=list(FEATURE_NAMES))


def table(n, *, seed=0, shift=0.0, share=0.5):
    genres = np.where(np.random.default_rng(seed + 1).random(n) < share, "jazz", "rock")
    return normal(n, seed=seed, shift=shift).assign(genre=genres)


def test_nothing_is_logged_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("GENRE_LOG", raising=False)
    monkeypatch.chdir(tmp_path)
    answer_log.log_prediction("genre/1", {"jazz": 1.0}, ROW, CONFIG)
    assert answer_log.log_dir() is None and not list(tmp_path.rglob("*"))


def test_a_prediction_is_read_as_it_was_logged(log):
    row = extract_features(tone(1.0, hz=220.0), CONFIG)
    answer_log.log_prediction("genre/3", {"jazz": 0.4, "rock": 0.6}, row, CONFIG)
    found = answer_log.read_log(log)
    (answer,) = found[list(answer_log.LOG_COLUMNS)].itertuples(index=False)
    assert (answer.version, answer.genre, answer.confidence, answer.config) == (
        "genre/3",
        "rock",
        0.6,
        CONFIG.fingerprint,
    )
    assert abs(pd.Timestamp.now("UTC") - answer.time) < pd.Timedelta("1min")
    np.testing.assert_allclose(found[list(FEATURE_NAMES)].to_numpy()[0], row, rtol=1e-5)


def test_a_version_of_no_registry_is_not_logged(log):
    answer_log.log_prediction(None, {"jazz": 1.0}, ROW, CONFIG)
    assert not log.exists()


def test_predictions_without_features_count_for_the_genres(log):
    for n in range(400):
        answer_log.log_prediction("genre/1", {"jazz": 1.0 - n % 2, "rock": n % 2}, None, CONFIG)
    found = drift.measure_shift(table(1000, share=0.9), answer_log.read_log(log))
    assert list(drift.select_shifted(found)["what"]) == ["genre answered"]


def test_no_audio_and_no_name_is_logged(log):
    answer_log.log_prediction("genre/3", {"jazz": 1.0}, ROW, CONFIG)
    (file,) = log.iterdir()
    assert set(json.loads(file.read_text())) == {*answer_log.LOG_COLUMNS, "features"}
    assert file.stat().st_size < 2000


def test_predictions_of_fewer_features_are_read_without_them(log):
    answer_log.log_prediction("genre/1", {"jazz": 1.0}, ROW[:-2], CONFIG)
    answer_log.log_prediction("genre/1", {"jazz": 1.0}, ROW, CONFIG)
    found = answer_log.read_log(log)
    assert found["genre"].tolist() == ["jazz", "jazz"]
    assert found[list(FEATURE_NAMES)].notna().all(axis=1).tolist() == [False, True]


def test_only_predictions_of_the_version_are_read(log):
    for version, config in (("genre/1", CONFIG), ("genre/2", CONFIG), ("genre/2", AudioConfig(variant="paper"))):
        answer_log.log_prediction(version, {"jazz": 1.0}, ROW, config)
    assert len(answer_log.read_log(log)) == 3
    assert len(answer_log.read_log(log, version="genre/2")) == 2
    assert answer_log.read_log(log, version="genre/2")["config"].nunique() == 2


def test_an_empty_log_has_the_columns_of_a_full_one(tmp_path):
    found = answer_log.read_log(tmp_path / "nothing")
    assert list(found) == [*answer_log.LOG_COLUMNS, *FEATURE_NAMES] and found.empty
    assert (
        drift.measure_shift(table(50), found).empty
        and drift.select_shifted(drift.measure_shift(table(50), found)).empty
    )


def test_threads_and_processes_write_at_once_and_lose_nothing(log):
    code = (
        "import numpy as np\nfrom genre import answer_log\nfrom genre.config import AudioConfig\n"
        f"rows = [np.full({len(FEATURE_NAMES)}, n, 'f4') for n in range(200)]\n"
        "for row in rows: answer_log.log_prediction('other', {'jazz': 1.0}, row, AudioConfig())\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]

    def write(name):
        for n in range(200):
            answer_log.log_prediction(name, {"jazz": 1.0}, np.full(len(FEATURE_NAMES), n, np.float32), CONFIG)

    threads = [threading.Thread(target=write, args=(f"thread/{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait(120) for process in others] == [0, 0]
    found = answer_log.read_log(log)
    assert found["version"].value_counts().to_dict() == {**{f"thread/{i}": 200 for i in range(4)}, "other": 400}
    assert set(found.loc[found["version"] == "thread/0", FEATURE_NAMES[0]]) == set(range(200))
    assert len(list(log.iterdir())) == 3


def test_the_log_is_bounded_and_the_oldest_predictions_are_dropped(log, monkeypatch):
    monkeypatch.setattr(answer_log, "MAX_FILE_BYTES", 2000)
    monkeypatch.setattr(answer_log, "MAX_LOG_BYTES", 10_000)
    for n in range(300):
        answer_log.log_prediction("genre/1", {"jazz": 1.0}, np.full(len(FEATURE_NAMES), n, np.float32), CONFIG)
    assert sum(file.stat().st_size for file in log.iterdir()) <= 10_000
    kept = answer_log.read_log(log)[FEATURE_NAMES[0]]
    assert kept.max() == 299 and kept.min() > 200 and sorted(kept) == list(np.arange(kept.min(), 300))


def test_a_line_cut_short_costs_no_other(log, caplog):
    answer_log.log_prediction("genre/1", {"jazz": 1.0}, ROW, CONFIG)
    (file,) = log.iterdir()
    with file.open("ab") as torn:
        torn.write(b'\n{"time": "2026-')
    answer_log.log_prediction("genre/1", {"jazz": 1.0}, ROW, CONFIG)
    with caplog.at_level(logging.WARNING):
        assert len(answer_log.read_log(log)) == 2
    assert "1 truncated lines are left out" in caplog.text


def test_a_log_that_cannot_be_written_is_a_warning(log, caplog):
    log.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        answer_log.log_prediction("genre/1", {"jazz": 1.0}, ROW, CONFIG)
    assert f"could not be logged in {log}" in caplog.text


def test_the_index_is_that_of_the_definition():
    # sum of (q - p) ln(q / p) for shares of 60, 40 and 40, 60 %, by hand: 2 * 0.2 * ln 1.5
    assert drift.psi(np.array([60_000, 40_000]), np.array([40_000, 60_000])) == pytest.approx(0.16219, abs=1e-4)
    assert drift.psi(np.array([5, 5]), np.array([50, 50])) == 0
    assert 0 < drift.psi(np.array([10, 0]), np.array([0, 10])) < 10


@pytest.mark.parametrize("n", [20, 200, 2000])
def test_chance_bounds_the_index_of_two_samples_of_one_population(n):
    rng = np.random.default_rng(0)
    found = [drift.psi(rng.multinomial(1000, [0.1] * 10), rng.multinomial(n, [0.1] * 10)) for _ in range(400)]
    assert np.mean(np.array(found) > drift.chance_level(10, 1000, n)) < 0.08


def test_the_same_population_has_not_shifted_however_small_the_sample():
    for n in (5, 50, 500):
        assert drift.select_shifted(drift.measure_shift(table(1000), table(n, seed=9))).empty, n


def test_a_shift_is_found_in_features_and_in_genres_and_the_largest_comes_first():
    seen = table(400, seed=9, share=0.9)
    seen[FEATURE_NAMES[5]] += 2
    found = drift.select_shifted(drift.measure_shift(table(1000), seen))
    assert list(found["what"]) == [FEATURE_NAMES[5], "genre answered"]
    assert list(found["shift"]) == ["yes", "yes"]
    assert drift.select_shifted(drift.measure_shift(table(1000), seen), limit=5.0).empty


def test_a_genre_missing_from_training_is_a_shift():
    seen = table(400, seed=9).assign(genre="polka")
    assert "genre answered" in set(drift.select_shifted(drift.measure_shift(table(1000), seen))["what"])


def test_a_file_classified_many_times_counts_once():
    seen = pd.concat([table(3, seed=9, shift=3)] * 500)
    assert drift.select_shifted(drift.measure_shift(table(1000), seen)).empty


def test_a_feature_of_few_values_has_not_shifted_by_being_logged(log):
    tempo = np.random.default_rng(0).choice(np.float32([99.38401, 117.45383, 143.55469]), 400)
    reference = table(400).assign(tempo=tempo)
    for row in reference.sample(200, random_state=1)[list(FEATURE_NAMES)].to_numpy():
        answer_log.log_prediction("genre/1", {"jazz": 0.5, "rock": 0.5}, row, CONFIG)
    found = drift.measure_shift(reference, answer_log.read_log(log)).set_index("what")
    assert found.loc["tempo", "psi"] < drift.SMALL_SHIFT


def test_a_constant_feature_is_no_division_by_zero():
    reference = table(100)
    seen = table(100, seed=5)
    reference[FEATURE_NAMES[0]] = seen[FEATURE_NAMES[0]] = 0.0
    found = drift.measure_shift(reference, seen).set_index("what")
    assert found.loc[FEATURE_NAMES[0], "psi"] == 0 and found["psi"].notna().all()
