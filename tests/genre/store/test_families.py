"""Inputs that not every build computes: parts of their own, beside those of the others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genre import datasets
from genre.config import AudioConfig
from genre.errors import DataError
from genre.inputs import BASE_INPUTS, INPUTS, Input, compute_inputs, load_weights
from genre.store import archive, computing, contents, parts, reference_clip

CONFIG = AudioConfig()
FURTHER = {
    "halves": Input("halves", "tests.support.halves", "float32", 1),
    "peaks": Input("peaks", "tests.support.peaks", "float32", 1),
    "levels": Input("levels", "tests.support.levels", "float32", 1, derived_from="spectrograms"),
    "weighted": Input("weighted", "tests.support.weighted", "float32", 1, weights_file="weights.npy"),
}
FAMILIES = (parts.BASE, *FURTHER)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(INPUTS) - set(BASE_INPUTS):
        monkeypatch.delitem(INPUTS, name)
    for name, entry in FURTHER.items():
        monkeypatch.setitem(INPUTS, name, entry)


@pytest.fixture
def clips(music: Path, tmp_path: Path) -> pd.DataFrame:
    return datasets.load_clips("folder", str(music), tmp_path, {"max_clips_per_track": 1})


@pytest.fixture
def store(clips: pd.DataFrame, tmp_path: Path) -> Path:
    """A store with two parts of every input."""
    directory = tmp_path / "store"
    directory.mkdir()
    write_weights(directory, 1.0)
    for family in FAMILIES:
        reference_clip.check_reference(CONFIG, directory, family)
        for start in (0, 4):
            computing.compute_part(clips.iloc[start : start + 4], CONFIG, directory, [family])
    return directory


def write_weights(directory: Path, first: float) -> None:
    np.save(directory / "weights.npy", np.array([first, 2.0, 3.0]))


def values_of(clips: pd.DataFrame, store: Path) -> dict[str, np.ndarray]:
    return {name: contents.load_input(clips, store, name)[:] for name in INPUTS}


def no_audio(folder: Path) -> Path:
    """Return a file without audio."""
    path = folder / "text.wav"
    path.write_text("no audio")
    return path


def test_every_input_is_read_as_it_was_computed(clips, store):
    read = values_of(clips, store)
    y = computing.read_clip(next(clips.itertuples()), CONFIG)
    computed = compute_inputs(y, CONFIG, INPUTS, load_weights(store, INPUTS))
    for name, values in computed.items():
        np.testing.assert_array_equal(read[name][0], values, err_msg=name)
    assert contents.column_names(store, "peaks") == ["first_peak", "second_peak"]


def test_a_family_is_computed_and_missing_by_itself(clips, store):
    for path in parts.list_parts(store, "peaks"):
        parts.remove_part(path)
    assert contents.find_missing(clips, store).empty
    assert contents.find_missing(clips, store, "halves").empty
    assert len(contents.find_missing(clips, store, "peaks")) == len(clips)
    with pytest.raises(
        DataError, match=r"8 clips are not in the store .* \(peaks\); train a model that takes peaks first"
    ):
        contents.load_input(clips, store, "peaks")


def test_a_new_version_of_an_input_leaves_the_old_parts_unread(clips, store, monkeypatch):
    monkeypatch.setitem(INPUTS, "halves", replace(FURTHER["halves"], version=2))
    assert len(contents.find_missing(clips, store, "halves")) == len(clips)
    assert parts.list_families(store) == [parts.BASE, "peaks", "levels", "weighted"]
    computing.compute_part(clips, CONFIG, store, ["halves"])
    assert len(contents.load_input(clips, store, "halves")) == len(clips)


def test_a_file_that_fails_is_missing_from_its_family_alone(clips, store, tmp_path):
    gone = clips.assign(clip_id=[f"{n}" for n in range(len(clips))], path=str(no_audio(tmp_path)))
    computing.compute_part(gone.iloc[:2], CONFIG, store, ["peaks"])
    outcomes = contents.read_outcomes(store, "peaks")
    assert outcomes["status"].tolist().count("undecodable") == 2
    assert len(contents.read_outcomes(store)) == len(clips)
    with pytest.raises(DataError, match="not in the store"):
        contents.load_input(gone.iloc[:2], store, "peaks")


def test_compaction_merges_each_family_and_changes_no_value(clips, store):
    before = values_of(clips, store)
    assert archive.compact_parts(store) == (10, 5)
    after = values_of(clips, store)
    for name in INPUTS:
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)


def test_an_archive_holds_every_input_and_gives_it_back(clips, store, tmp_path):
    built = contents.with_outcomes(clips, store)
    for path in parts.list_parts(store, "halves")[:1]:
        parts.remove_part(path)  # half of the clips lack it
    file = tmp_path / "music.parquet"
    assert archive.export_store(built, CONFIG, store, file) == len(clips)
    assert pd.read_parquet(file)["halves"].notna().sum() == 4
    assert archive.restore_store(file, CONFIG, tmp_path / "other") == len(clips)
    known = contents.read_outcomes(store, "halves")["clip_id"]
    for name, these in {"features": clips, "peaks": clips, "halves": clips[clips["clip_id"].isin(known)]}.items():
        np.testing.assert_array_equal(
            contents.load_input(these, tmp_path / "other", name)[:], contents.load_input(these, store, name)[:]
        )


def test_an_archive_of_an_unknown_input_gives_back_the_others(clips, store, tmp_path, monkeypatch):
    file = tmp_path / "music.parquet"
    archive.export_store(contents.with_outcomes(clips, store), CONFIG, store, file)
    monkeypatch.delitem(INPUTS, "peaks")
    archive.restore_store(file, CONFIG, tmp_path / "other")
    assert parts.list_families(tmp_path / "other") == [parts.BASE, "halves", "levels"]


def test_damage_in_one_family_leaves_the_others(clips, store):
    victim = parts.list_parts(store, "halves")[0].with_suffix(".npy")
    victim.write_bytes(victim.read_bytes()[:100])
    contents.remove_damaged_parts(store)
    assert len(contents.find_missing(clips, store, "halves")) == 4
    assert contents.find_missing(clips, store).empty and contents.find_missing(clips, store, "peaks").empty


def test_other_reference_values_are_refused_for_their_family(store, monkeypatch):
    path = reference_clip.reference_path(store, "peaks")
    path.write_text(path.read_text().replace('"first_peak": 0', '"first_peak": 7'))
    sentence = r"^this installation computes other values than the store .*, 1 of 2: .* raise the version of peaks in"
    with pytest.raises(DataError, match=sentence):
        reference_clip.check_reference(CONFIG, store, "peaks")
    reference_clip.check_reference(CONFIG, store)


def test_an_archive_is_restored_though_a_batch_of_it_lacks_an_input(clips, store, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    write_weights(tmp_path / "other", 1.0)
    for name in FURTHER:
        parts.remove_part(parts.list_parts(store, name)[0])  # of the first four clips
    archive.export_store(contents.with_outcomes(clips, store), CONFIG, store, tmp_path / "music.parquet")
    monkeypatch.setattr(archive, "MAX_PART_CLIPS", 4)
    archive.restore_store(tmp_path / "music.parquet", CONFIG, tmp_path / "other")
    for name in FURTHER:
        [part] = parts.list_parts(tmp_path / "other", name)
        assert len(parts.read_part_index(part)) == 4
        np.testing.assert_array_equal(
            contents.load_input(clips.iloc[4:], tmp_path / "other", name)[:],
            contents.load_input(clips.iloc[4:], store, name)[:],
        )


def test_an_archive_is_the_same_file_where_no_clip_has_a_further_input(clips, store, tmp_path):
    built = contents.with_outcomes(clips, store)
    for name in FURTHER:
        for path in parts.list_parts(store, name):
            parts.remove_part(path)
    archive.export_store(built, CONFIG, store, tmp_path / "without.parquet")
    others = clips.iloc[:2].assign(clip_id=["other", "another"])
    for name in set(FURTHER) - {"levels"}:  # which the store derives from what it has
        computing.compute_part(others, CONFIG, store, [name])
    archive.export_store(built, CONFIG, store, tmp_path / "with.parquet")
    assert (tmp_path / "with.parquet").read_bytes() == (tmp_path / "without.parquet").read_bytes()


def test_lost_reference_values_are_computed_for_an_archive(clips, store, tmp_path):
    kept = [reference_clip.reference_path(store, family) for family in FAMILIES]
    before = [path.read_text() for path in kept]
    for path in kept:
        path.unlink()
    archive.export_store(contents.with_outcomes(clips, store), CONFIG, store, tmp_path / "music.parquet")
    assert [path.read_text() for path in kept] == before
    archive.restore_store(tmp_path / "music.parquet", CONFIG, tmp_path / "other")
    assert (tmp_path / "other" / kept[1].name).read_text() == before[1]


def test_an_export_reads_the_index_of_a_further_input_once(clips, store, tmp_path, monkeypatch):
    """And not once per part of the base, which would take hours for a million clips."""
    read = []
    monkeypatch.setattr(parts, "iter_index", lambda *args, real=parts.iter_index: read.append(1) or real(*args))
    built = contents.with_outcomes(clips, store)
    counts = []
    for n in (8, 4, 2):
        for path in parts.list_parts(store):
            parts.remove_part(path)
        for start in range(0, len(clips), n):
            computing.compute_part(clips.iloc[start : start + n], CONFIG, store)
        read.clear()
        archive.export_store(built, CONFIG, store, tmp_path / "music.parquet")
        counts.append(len(read))
    assert np.diff(counts).tolist() == [1, 2]  # one more for each part of the base


def test_parts_of_any_other_name_are_of_the_base(clips, store):
    before = values_of(clips, store)
    for n, path in enumerate(parts.list_parts(store)):
        for file in (path, path.with_suffix(".npy")):
            file.rename(file.with_stem(f"part-{n}"))
    assert contents.find_missing(clips, store).empty
    assert len(parts.list_parts(store)) == 2 == len(parts.list_parts(store, "peaks"))
    for name, values in values_of(clips, store).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_clips_that_an_input_cannot_be_computed_of_are_refused_with_the_reason(clips, store, tmp_path):
    contents.require_computed(clips, store, "peaks")
    later = clips.assign(stamp="later")
    computing.compute_part(later.iloc[:2].assign(path=str(no_audio(tmp_path))), CONFIG, store, ["peaks"])
    contents.require_computed(clips, store, "peaks")
    sentence = rf"^peaks could not be computed for 2 of 8 clips; the first is '{later['clip_id'].iloc[0]}': .*text"
    with pytest.raises(DataError, match=sentence):
        contents.require_computed(later, store, "peaks")
    computing.compute_part(later.iloc[:3], CONFIG, store, ["peaks"])
    contents.require_computed(later, store, "peaks")


def test_several_families_are_computed_in_one_pass_as_one_by_one(clips, store, tmp_path):
    other = tmp_path / "together"
    other.mkdir()
    write_weights(other, 1.0)
    computing.compute_part(clips, CONFIG, other, FAMILIES)
    for name, values in values_of(clips, store).items():
        np.testing.assert_array_equal(contents.load_input(clips, other, name)[:], values, err_msg=name)


def test_a_derived_input_is_computed_without_the_audio(clips, store):
    before = contents.load_input(clips, store, "levels")
    for path in parts.list_parts(store, "levels"):
        parts.remove_part(path)
    computing.compute_part(clips.assign(path="nowhere.wav"), CONFIG, store, ["levels"])
    np.testing.assert_array_equal(contents.load_input(clips, store, "levels"), before)


def test_other_weights_leave_the_parts_of_the_earlier_ones_unread(clips, store):
    before = contents.load_input(clips, store, "weighted")
    write_weights(store, 5.0)
    assert len(contents.find_missing(clips, store, "weighted")) == len(clips)
    computing.compute_part(clips, CONFIG, store, ["weighted"])
    np.testing.assert_allclose(contents.load_input(clips, store, "weighted")[:, 0], 5 * before[:, 0], rtol=1e-6)
    write_weights(store, 1.0)
    np.testing.assert_array_equal(contents.load_input(clips, store, "weighted"), before)


def test_an_archive_gives_back_what_was_computed_with_the_same_weights_only(clips, store, tmp_path):
    file = tmp_path / "music.parquet"
    archive.export_store(contents.with_outcomes(clips, store), CONFIG, store, file)
    for first, n_parts in {1.0: 1, 2.0: 0}.items():
        other = tmp_path / f"with-{first}"
        other.mkdir()
        write_weights(other, first)
        archive.restore_store(file, CONFIG, other)
        assert len(parts.list_parts(other, "weighted")) == n_parts


def test_vectors_are_read_side_by_side(clips, store):
    together = contents.load_input(clips, store, "features", "levels")
    values = [contents.load_input(clips, store, name) for name in ("features", "levels")]
    assert values[1].shape == (len(clips), 4) and together.dtype == np.float32
    np.testing.assert_array_equal(together, np.hstack(values))


def test_a_file_that_was_away_is_tried_again_for_a_further_input(clips, store, tmp_path):
    for path in parts.list_parts(store, "peaks"):
        parts.remove_part(path)
    unread = computing.compute_part(clips.assign(path=str(tmp_path / "nowhere.wav")), CONFIG, store, ["peaks"])
    assert list(unread) == clips["clip_id"].tolist()
    assert len(contents.find_missing(clips, store, "peaks")) == len(clips)
    computing.compute_part(clips, CONFIG, store, ["peaks"])
    assert contents.find_missing(clips, store, "peaks").empty
    contents.require_computed(clips, store, "peaks")
    assert len(contents.load_input(clips, store, "peaks")) == len(clips)
