import platform
import resource

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from genre import datasets
from genre.config import AudioConfig, library_versions
from genre.errors import DataError
from genre.inputs import compute_inputs, features
from genre.store import archive, building, computing, contents, parts
from tests.support.sounds import tone, write_music

CONFIG = AudioConfig()


@pytest.fixture
def clips(music, tmp_path) -> pd.DataFrame:
    return datasets.load_clips("folder", str(music), tmp_path, {"max_clips_per_track": 1})


def test_stored_inputs_are_those_computed(clips, tmp_path):
    assert building.build_store(clips, CONFIG, tmp_path, n_jobs=2).n_computed == len(clips)
    y = sf.read(clips["path"].iloc[3], dtype="float32")[0][: CONFIG.n_samples]
    table = contents.load_features(clips, tmp_path)
    assert list(table.index) == list(clips["clip_id"])
    # how many threads BLAS has in a worker changes the last digit
    computed = compute_inputs(y, CONFIG)
    np.testing.assert_allclose(table.iloc[3], computed["features"], rtol=1e-5, atol=1e-7)
    pictures = contents.InputReader(clips, tmp_path)
    assert pictures.shape == (len(clips), 96, 431)
    np.testing.assert_array_equal(pictures[3], computed["spectrograms"])


def test_any_order_and_any_subset_can_be_read(clips, tmp_path):
    for start in (0, 3):  # two parts
        computing.compute_part(clips.iloc[start : start + 3], CONFIG, tmp_path)
    wanted = clips.iloc[[5, 0, 4]]
    pictures = contents.InputReader(wanted, tmp_path)
    one_by_one = [contents.InputReader(clips.iloc[[i]], tmp_path)[0] for i in (5, 0, 4)]
    np.testing.assert_array_equal(pictures[:], one_by_one)
    np.testing.assert_array_equal(pictures[np.array([2, 0, 2])], [one_by_one[i] for i in (2, 0, 2)])
    assert list(contents.load_features(wanted, tmp_path).index) == list(wanted["clip_id"])


def test_a_second_build_computes_nothing_and_a_changed_file_again(tmp_path):
    folder = write_music(tmp_path / "music", genres={"a": 200, "b": 400}, tracks=1)
    scan = lambda: datasets.load_clips("folder", str(folder), tmp_path, {})  # noqa: E731
    assert building.build_store(scan(), CONFIG, tmp_path / "s").n_computed == 2
    assert building.build_store(scan(), CONFIG, tmp_path / "s").n_computed == 0
    before = contents.load_features(scan(), tmp_path / "s")
    sf.write(folder / "a" / "0.wav", tone(12, hz=900), 22050)
    assert building.build_store(scan(), CONFIG, tmp_path / "s").n_computed == 1
    after = contents.load_features(scan(), tmp_path / "s")
    assert not np.array_equal(before.iloc[0], after.iloc[0])
    np.testing.assert_array_equal(before.iloc[1], after.iloc[1])


def test_each_bad_file_has_its_reason_and_the_good_ones_are_built(tmp_path):
    folder = write_music(tmp_path / "music", genres={"a": 200, "b": 400}, tracks=1)
    sf.write(folder / "a" / "silent.wav", np.zeros(22050 * 10), 22050)
    sf.write(folder / "a" / "short.wav", tone(0.5, hz=300), 22050)
    sf.write(folder / "b" / "nan.wav", np.full(22050 * 10, np.nan, np.float32), 22050, subtype="FLOAT")
    (folder / "b" / "noise.mp3").write_bytes(b"this is no music" * 100)
    (folder / "b" / "empty.flac").write_bytes(b"")
    clips = datasets.load_clips("folder", str(folder), tmp_path, {})
    building.build_store(clips, CONFIG, tmp_path / "s")
    built = contents.with_outcomes(clips, tmp_path / "s").set_index("recording")
    assert built["status"].to_dict() == {
        "a/0.wav": "ok",
        "b/0.wav": "ok",
        "a/silent.wav": "silent",
        "a/short.wav": "too_short",
        "b/nan.wav": "not_finite",
        "b/noise.mp3": "undecodable",
        "b/empty.flac": "undecodable",
    }
    assert (built.loc[built["status"] != "ok", "reason"].str.len() > 10).all()


def test_a_build_repairs_what_was_killed_or_cut_short(clips, tmp_path):
    for start in (0, 4):
        computing.compute_part(clips.iloc[start : start + 4], CONFIG, tmp_path)
    first, second = parts.list_parts(tmp_path)
    first.unlink()  # killed between the two files
    second.with_suffix(".npy").write_bytes(b"")
    assert building.build_store(clips, CONFIG, tmp_path).n_computed == len(clips)
    assert len(contents.InputReader(clips, tmp_path)[:]) == len(clips)
    assert {p.stem for p in tmp_path.glob("part-*.npy")} == {p.stem for p in parts.list_parts(tmp_path)}


@pytest.mark.parametrize("damage", ["cut", "missing", "empty", "index"])
def test_a_damaged_part_is_an_error_until_it_is_repaired(clips, tmp_path, damage):
    for start in (0, 4):  # two parts
        computing.compute_part(clips.iloc[start : start + 4], CONFIG, tmp_path)
    before = contents.InputReader(clips, tmp_path)[:]
    whole = contents.load_features(clips, tmp_path)
    reader = contents.InputReader(clips, tmp_path)
    victim = sorted(tmp_path.glob("part-*.parquet" if damage == "index" else "part-*.npy"))[0]
    if damage == "missing":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[: 0 if damage == "empty" else victim.stat().st_size * 3 // 4])
    with pytest.raises(DataError, match=rf"{victim} is damaged: .*; \"mlflow run . -e build\" .* repairs it"):
        contents.read_outcomes(tmp_path) if damage == "index" else reader[:]
    contents.remove_damaged_parts(tmp_path)
    missing = contents.find_missing(clips, tmp_path)
    assert len(missing) == 4
    computing.compute_part(missing, CONFIG, tmp_path)
    np.testing.assert_array_equal(contents.InputReader(clips, tmp_path)[:], before)
    np.testing.assert_allclose(contents.load_features(clips, tmp_path), whole, rtol=1e-4, atol=1e-5)


def test_a_part_that_lacks_a_column_is_computed_anew_as_its_message_promises(clips, tmp_path):
    computing.compute_part(clips.iloc[:4], CONFIG, tmp_path)
    [index] = tmp_path.glob("part-*.parquet")
    whole = contents.load_features(clips.iloc[:4], tmp_path)
    for column in ("status", whole.columns[-1]):
        pq.write_table(pq.read_table(index).drop_columns([column]), index)
        with pytest.raises(DataError, match=r"is damaged: it lacks the column .* -e build\" .* repairs it"):
            parts.check_part(index)
        assert building.build_store(clips.iloc[:4], CONFIG, tmp_path, n_jobs=1).n_computed == 4
        np.testing.assert_allclose(contents.load_features(clips.iloc[:4], tmp_path), whole, rtol=1e-4, atol=1e-5)


def test_a_part_records_what_computed_it(clips, tmp_path, monkeypatch):
    computing.compute_part(clips.iloc[:1], CONFIG, tmp_path)
    [index] = tmp_path.glob("part-*.parquet")
    made_by = parts.read_versions(index)
    assert made_by.items() >= library_versions().items() and made_by["kernels"] == "compiled"
    assert made_by["processor"].startswith(platform.machine())
    assert contents.is_made_here(tmp_path)
    monkeypatch.setenv("GENRE_KERNELS", "plain")
    assert not contents.is_made_here(tmp_path)
    computing.compute_part(clips.iloc[1:2], CONFIG, tmp_path)
    assert not contents.is_made_here(tmp_path)  # one of two parts is of another kind


def test_a_clip_that_is_not_there_is_named(clips, tmp_path):
    building.build_store(clips.iloc[1:], CONFIG, tmp_path)
    with pytest.raises(DataError, match=r"1 clips are not in the store .* 'high/0.wav@0'"):
        contents.load_features(clips, tmp_path)


def test_source_features_are_stored_and_loaded(tmp_path):
    clips = pd.DataFrame({"clip_id": ["x", "y"], "stamp": "1", "status": "ok", "reason": ""})
    table = pd.DataFrame(1.5, index=pd.Index(["y", "x"]), columns=list(features.FEATURE_NAMES))
    table.loc["y"] = 2.5
    contents.write_source_features(clips, table, tmp_path)
    assert contents.load_features(clips, tmp_path)["tempo"].to_dict() == {"x": 1.5, "y": 2.5}


def test_more_parts_than_the_system_lets_open(clips, tmp_path):
    computing.compute_part(clips.iloc[:1], CONFIG, tmp_path)
    [index] = tmp_path.glob("part-*.parquet")
    [pictures] = tmp_path.glob("part-*.npy")
    table = pd.read_parquet(index, columns=["clip_id", "stamp", "row"])
    n = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    limit = min(n, 512)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        for i in range(limit + 20):
            table.assign(clip_id=f"c{i}").to_parquet(tmp_path / f"part-{i:016d}.parquet")
            (tmp_path / f"part-{i:016d}.npy").hardlink_to(pictures)
        many = pd.DataFrame({"clip_id": [f"c{i}" for i in range(limit + 20)], "stamp": clips["stamp"].iloc[0]})
        every = contents.InputReader(many, tmp_path)[:]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (n, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    assert (every == np.load(pictures)[0]).all()


def test_an_index_is_read_in_pieces_and_to_the_end(clips, tmp_path, monkeypatch):
    computing.compute_part(clips, CONFIG, tmp_path)
    whole = contents.load_features(clips, tmp_path)
    pictures = contents.InputReader(clips, tmp_path)[:]
    outcomes = contents.read_outcomes(tmp_path)
    monkeypatch.setattr(parts, "READ_ROWS", 2)
    assert len(list(parts.iter_index(parts.list_parts(tmp_path)[0]))) > 1
    pd.testing.assert_frame_equal(contents.load_features(clips, tmp_path), whole)
    np.testing.assert_array_equal(contents.InputReader(clips, tmp_path)[:], pictures)
    pd.testing.assert_frame_equal(contents.read_outcomes(tmp_path), outcomes)
    assert contents.find_missing(clips, tmp_path).empty


def test_a_part_that_is_compacted_away_while_the_others_are_read_loses_no_clip(clips, tmp_path, monkeypatch):
    for start in range(0, len(clips), 2):
        computing.compute_part(clips.iloc[start : start + 2], CONFIG, tmp_path)
    whole = contents.load_features(clips, tmp_path)

    def listing(directory, family=parts.BASE, real=parts.list_parts):
        paths = real(directory, family)
        monkeypatch.setattr(parts, "list_parts", real)
        archive.compact_parts(directory)
        return paths

    monkeypatch.setattr(parts, "list_parts", listing)
    pd.testing.assert_frame_equal(contents.load_features(clips, tmp_path), whole)


def test_of_a_clip_in_several_parts_the_latest_outcome_counts(clips, tmp_path):
    missing = clips.iloc[:2].assign(path="/nowhere.wav")
    computing.write_crashed_part(missing.iloc[:1], CONFIG, tmp_path, "was killed")
    computing.compute_part(clips.iloc[:2], CONFIG, tmp_path)
    assert contents.with_outcomes(clips.iloc[:3], tmp_path)["status"].tolist() == ["ok", "ok", "pending"]
    other_file = clips.iloc[:1].assign(stamp="another")
    assert contents.with_outcomes(other_file, tmp_path)["status"].tolist() == ["pending"]
    assert len(contents.find_missing(other_file, tmp_path)) == 1
