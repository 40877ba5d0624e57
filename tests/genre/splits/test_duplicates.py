import numpy as np
import pandas as pd
import pytest
from scipy.signal import butter, sosfilt

from genre.config import AudioConfig
from genre.inputs import spectrogram
from genre.inputs.features import FEATURE_NAMES, extract_features
from genre.splits import assignment, duplicates
from tests.support.sounds import tone

CONFIG = AudioConfig()


def piece(seed: int, seconds: float = 12.0) -> np.ndarray:
    """A random melody over soft noise, different for each seed."""
    rng = np.random.default_rng(seed)
    n = CONFIG.sr // 5
    parts = []
    t = np.arange(n) / CONFIG.sr
    while sum(map(len, parts)) < seconds * CONFIG.sr:
        hz = 110 * 2 ** (rng.integers(0, 36) / 12)
        parts.append(np.exp(-6 * t) * sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 6)))
    y = 0.2 * np.concatenate(parts)
    return (y + 0.002 * rng.standard_normal(y.size)).astype(np.float32)


def analyse(clips: dict[str, np.ndarray]) -> tuple[pd.DataFrame, np.ndarray]:
    """Features and spectrograms of clips."""
    cut = [y[: CONFIG.n_samples] for y in clips.values()]
    features = pd.DataFrame([extract_features(y, CONFIG) for y in cut], columns=list(FEATURE_NAMES), index=list(clips))
    return features, np.stack([spectrogram.log_mel(y, CONFIG) for y in cut])


def degrade(y: np.ndarray) -> np.ndarray:
    """Remove the highest octave and add a little noise, as a poor encoder does."""
    low = sosfilt(butter(8, 7000, fs=CONFIG.sr, output="sos"), y)
    return (low + 1e-4 * np.random.default_rng(0).standard_normal(y.size)).astype(np.float32)


@pytest.fixture(scope="module")
def collection() -> tuple[pd.DataFrame, np.ndarray]:
    """Eight pieces, and a duplicate of each of the first four: the same, softer, half a second later, encoded."""
    pieces = {f"piece {n}": piece(n) for n in range(8)}
    copies = {
        "same": pieces["piece 0"],
        "softer": pieces["piece 1"] * 0.5,
        "later": pieces["piece 2"][CONFIG.sr // 2 :],
        "encoded": degrade(pieces["piece 3"]),
    }
    return analyse(pieces | copies)


def test_all_duplicates_are_found_and_nothing_else(collection):
    found = duplicates.find_duplicates(*collection)
    assert set(zip(found["first"], found["second"], found["kind"], strict=True)) == {
        ("piece 0", "same", "exact"),
        ("piece 1", "softer", "near"),
        ("piece 2", "later", "near"),
        ("piece 3", "encoded", "near"),
    }
    assert (found["similarity"] >= duplicates.MIN_SIMILARITY).all() and (found["similarity"] <= 1.001).all()


def test_duplicates_are_found_within_cells_too(collection, monkeypatch):
    features, stored = collection
    whole = duplicates.find_duplicates(features, stored)
    n_candidates = len(duplicates._candidate_pairs(features))
    monkeypatch.setattr(duplicates, "CELL_CLIPS", 1)
    assert len(duplicates._candidate_pairs(features)) < n_candidates
    pd.testing.assert_frame_equal(duplicates.find_duplicates(features, stored), whole)


def test_several_threads_find_the_same_duplicates(collection, monkeypatch):
    whole = duplicates.find_duplicates(*collection)
    monkeypatch.setattr(duplicates, "CHUNK_PAIRS", 3)
    pd.testing.assert_frame_equal(duplicates.find_duplicates(*collection, n_jobs=2), whole, rtol=1e-5)


def test_without_spectrograms_only_equal_rows_are_duplicates(collection):
    features, _ = collection
    tripled = pd.concat([features, features.loc[["piece 0"]].rename({"piece 0": "again"})])
    found = duplicates.find_duplicates(tripled)
    assert set(zip(found["first"], found["second"], strict=True)) == {("piece 0", "same"), ("piece 0", "again")}
    assert set(found["kind"]) == {"exact"}
    none = duplicates.find_duplicates(features.iloc[:4])
    assert none.empty and list(none) == ["first", "second", "kind", "similarity"]
    assert duplicates.find_duplicates(features.iloc[:1], collection[1][:1]).empty


def test_the_same_beat_and_chord_at_two_pitches_are_no_duplicates():
    clips = {f"{hz} {n}": tone(10, hz=hz * (1 + 0.02 * n), seed=n) for hz in (110.0, 880.0) for n in range(3)}
    assert duplicates.find_duplicates(*analyse(clips)).empty


def test_the_padding_of_short_clips_does_not_make_them_similar():
    clips = {f"short {n}": piece(n, 3.0)[: 2 * CONFIG.sr] for n in range(4)}
    features, stored = analyse(clips)
    assert duplicates.find_duplicates(features, stored).empty
    i, j = np.triu_indices(4, 1)
    assert duplicates.pair_similarities(stored, np.column_stack([i, j])).max() < 0.6


def clips_of(recordings: dict[str, str]) -> pd.DataFrame:
    """Clips table from clip to recording; the genre is the recording's first letter."""
    rows = [{"clip_id": c, "recording": r, "genre": r[0], "status": "ok", "reason": ""} for c, r in recordings.items()]
    return pd.DataFrame(rows).assign(genre=lambda t: pd.Categorical(t["genre"]))


def pairs_of(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["first", "second"], dtype=str).assign(kind="near", similarity=0.9)


def test_new_duplicates_become_one_recording_through_chains():
    clips = clips_of({"1": "b", "2": "a", "3": "c", "4": "d"})
    resolved = duplicates.resolve_duplicates(clips, pairs_of(("1", "2"), ("3", "1")), {})
    assert resolved["recording"].tolist() == ["a", "a", "a", "d"]
    assert (resolved["status"] == "ok").all()
    assert clips["recording"].tolist() == ["b", "a", "c", "d"]


def test_a_new_duplicate_joins_the_split_of_the_old_recording():
    resolved = duplicates.resolve_duplicates(clips_of({"1": "a", "2": "z"}), pairs_of(("1", "2")), {"z": "validation"})
    assert resolved["recording"].tolist() == ["z", "z"]


def test_assignments_stay_and_the_training_duplicate_is_dropped():
    clips = clips_of({"1": "a", "1b": "a", "2": "b", "3": "c", "4": "new"})
    assigned = {"a": "train", "b": "test", "c": "validation"}
    resolved = duplicates.resolve_duplicates(clips, pairs_of(("1", "2"), ("2", "3"), ("3", "4")), assigned).set_index(
        "clip_id"
    )
    assert resolved["status"].to_dict() == {
        "1": "duplicate_of_test",
        "1b": "duplicate_of_test",
        "2": "ok",
        "3": "duplicate_of_test",
        "4": "ok",
    }
    assert resolved.loc["4", "recording"] == "b" and resolved.loc["2", "recording"] == "b"
    assert resolved.loc["1", "reason"] == "duplicate of b, which is in the test split"
    without_test = duplicates.resolve_duplicates(clips, pairs_of(("1", "3")), assigned).set_index("clip_id")
    assert without_test.loc["1", "status"] == "duplicate_of_validation" and without_test.loc["3", "status"] == "ok"


def test_a_published_split_keeps_its_recordings():
    assigned = {"a": "train", "b": "train", "c": "test"}
    clips = clips_of({"1": "a", "2": "b", "3": "c"})
    resolved = duplicates.resolve_duplicates(clips, pairs_of(("1", "2")), assigned, merge=False)
    assert resolved["recording"].tolist() == ["a", "b", "c"] and (resolved["status"] == "ok").all()


def test_merged_recordings_keep_their_split_when_they_are_separated():
    clips = clips_of({f"{g}{n}": f"{g}{n}" for g in "ab" for n in range(12)})
    merged = duplicates.resolve_duplicates(clips, pairs_of(("a3", "a5"), ("a5", "a7")), {})
    splits = assignment.add_merged_recordings(assignment.assign_splits(merged), clips["recording"], merged["recording"])
    assert splits["recording"].is_unique and set(splits["recording"]) == set(clips["recording"])
    separated = assignment.assign_splits(clips, splits).set_index("recording")["split"]
    assert separated["a3"] == separated["a5"] == separated["a7"]
    assert len(separated) == len(clips)


def test_pairs_within_a_recording_are_left_out():
    clips = clips_of({"1": "a", "2": "a", "3": "b"})
    found = duplicates.between_recordings(pairs_of(("1", "2"), ("2", "3")), clips)
    assert found[["first", "second", "first_genre", "second_genre"]].to_numpy().tolist() == [["2", "3", "a", "b"]]
    assert duplicates.between_recordings(pairs_of(), clips).empty
    stamped = clips.assign(stamp="x")
    assert (
        duplicates.duplicates_digest(stamped, "f")
        != duplicates.duplicates_digest(stamped, "g")
        != duplicates.duplicates_digest(stamped.iloc[1:], "g")
    )


def test_negative_zero_is_zero_and_near_values_are_no_exact_duplicates():
    features = pd.DataFrame(np.eye(4, len(FEATURE_NAMES), dtype=np.float32), columns=list(FEATURE_NAMES))
    features.loc[4] = features.loc[0].where(features.loc[0] != 0, -0.0)
    features.loc[5] = features.loc[1] * np.float32(1 + 1e-6)
    found = duplicates.find_duplicates(features)
    assert found[["first", "second"]].to_numpy().tolist() == [[0, 4]]
