import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre import datasets
from genre.config import AudioConfig
from genre.errors import DataError
from genre.inputs import features
from genre.store import archive, contents, parts, reference_clip

CONFIG = AudioConfig()


@pytest.fixture(scope="module")
def made(music, tmp_path_factory) -> tuple[pd.DataFrame, list[tuple[pd.DataFrame, np.ndarray]]]:
    """Clips, one of them unusable, and what four parts of two clips each hold: made up, since nothing is computed."""
    clips = datasets.load_clips("folder", str(music), tmp_path_factory.mktemp("x"), {"max_clips_per_track": 1})
    rng = np.random.default_rng(0)
    written = []
    for start in range(0, len(clips), 2):
        index = clips[["clip_id", "stamp"]].iloc[start : start + 2].assign(status="ok", reason="", row=[0, 1])
        index[list(features.FEATURE_NAMES)] = rng.normal(size=(2, len(features.FEATURE_NAMES))).astype(np.float32)
        written.append((index, rng.integers(0, 255, (2, CONFIG.n_mels, CONFIG.n_frames)).astype(np.uint8)))
    index, pictures = written[1]
    index.iloc[0, 2:5] = ["silent", "too quiet", -1]
    index.iloc[1, 4] = 0
    written[1] = (index, pictures[1:])
    return clips, written


@pytest.fixture(scope="module")
def reference() -> dict[str, float]:
    return reference_clip.compute_reference(CONFIG)


@pytest.fixture
def filled(made, reference, tmp_path):
    clips, written = made
    for index, pictures in written:
        parts.save_part(index, pictures, tmp_path)
    reference_clip.reference_path(tmp_path).write_text(
        json.dumps({"versions": {"numpy": "2"}, "values": reference | {"mel_0": reference["mel_0"] + 1e-6}})
    )
    return contents.with_outcomes(clips, tmp_path), tmp_path


def usable(clips: pd.DataFrame) -> pd.DataFrame:
    return clips[clips["status"] == "ok"]


def test_compaction_changes_no_value_and_disturbs_no_reader(filled):
    clips, directory = filled
    good = usable(clips)
    reader = contents.InputReader(good, directory)
    pictures = reader[:]
    table = contents.load_features(good, directory)
    assert archive.compact_parts(directory) == (4, 1)
    assert len(list(directory.glob("part-*"))) == 2
    np.testing.assert_array_equal(reader[:], pictures)
    np.testing.assert_array_equal(reader[np.array([5, 0])], pictures[[5, 0]])
    np.testing.assert_array_equal(contents.InputReader(good, directory)[:], pictures)
    pd.testing.assert_frame_equal(contents.load_features(good, directory), table)
    pd.testing.assert_frame_equal(contents.with_outcomes(clips, directory), clips)
    assert archive.compact_parts(directory) == (1, 1)


def test_parts_of_different_libraries_stay_apart_and_large_ones_alone(filled, made, monkeypatch):
    directory = filled[1]
    index, pictures = made[1][0]
    parts.save_part(index, pictures, directory, {"numpy": "1.0"})
    assert archive.compact_parts(directory) == (4, 2)
    monkeypatch.setattr(archive, "MAX_PART_CLIPS", 4)
    for index, pictures in made[1]:
        parts.save_part(index, pictures, directory)
    assert archive.compact_parts(directory)[1] >= 3


def test_a_compaction_that_was_killed_is_finished_by_the_next(filled, made):
    clips, directory = filled
    archive.compact_parts(directory)
    for index, pictures in made[1][:2]:  # not removed yet
        parts.save_part(index, pictures, directory)
    before = contents.InputReader(usable(clips), directory)[:]
    assert archive.compact_parts(directory) == (3, 1)
    assert len(contents.read_outcomes(directory)) == len(clips)
    np.testing.assert_array_equal(contents.InputReader(usable(clips), directory)[:], before)


def test_what_is_exported_is_restored(filled, tmp_path):
    clips, directory = filled
    good = usable(clips)
    path = tmp_path / "out" / "music.parquet"
    assert archive.export_store(clips, CONFIG, directory, path) == len(good) == 7
    table = pd.read_parquet(path)
    assert list(table["genre"]) == list(good["genre"])
    steps = np.frombuffer(table["spectrogram"][3], np.uint8).reshape(96, 431)
    np.testing.assert_array_equal(np.cumsum(steps, axis=1, dtype=np.uint8), contents.InputReader(good, directory)[3])
    assert str(tmp_path) not in table.drop(columns="spectrogram").to_csv()
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"
    assert archive.restore_store(path, CONFIG, tmp_path / "other") == 7
    np.testing.assert_array_equal(
        contents.InputReader(good, tmp_path / "other")[:], contents.InputReader(good, directory)[:]
    )
    pd.testing.assert_frame_equal(
        contents.load_features(good, tmp_path / "other"), contents.load_features(good, directory)
    )
    assert list(contents.find_missing(clips, tmp_path / "other")["clip_id"]) == []
    [index] = parts.list_parts(tmp_path / "other")
    assert parts.read_versions(index) == {"numpy": "2"}


def test_an_archive_that_does_not_belong_is_refused(filled, reference, tmp_path):
    clips, directory = filled
    path = tmp_path / "music.parquet"
    archive.export_store(clips, CONFIG, directory, path)
    with pytest.raises(DataError, match="choose the variant"):
        archive.restore_store(path, AudioConfig(variant="paper"), tmp_path / "other")
    (tmp_path / "other").mkdir()
    reference_clip.reference_path(tmp_path / "other").write_text(
        json.dumps({"versions": {"numpy": "1"}, "values": reference | {"mel_0": 900.0}})
    )
    with pytest.raises(DataError, match=r"gives mel_0 = .*, store has 900; numpy 1 is now 2") as refusal:
        archive.restore_store(path, CONFIG, tmp_path / "other")
    assert str(refusal.value).startswith(
        f"the installation that wrote {path} computes other values than the store {tmp_path}"
    )
    for nonsense in (b"", b"no parquet", pd.DataFrame({"a": [1]}).to_parquet()):
        path.write_bytes(nonsense)
        with pytest.raises(DataError, match="is no archive of a store"):
            archive.restore_store(path, CONFIG, tmp_path / "third")
    assert not list((tmp_path / "other").glob("part-*"))


def rewrite(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], about: dict | None = None) -> None:
    """Change the rows of an archive, and entries of its description."""
    table = pq.read_table(path)
    described = json.loads(table.schema.metadata[b"genre"]) | (about or {})
    changed = pa.Table.from_pandas(change(table.to_pandas()), preserve_index=False)
    types = {field.name: field.type for field in table.schema}
    for at, field in enumerate(changed.schema):
        with suppress(pa.ArrowInvalid):  # bytes of another length
            changed = changed.set_column(at, field.name, changed.column(at).cast(types[field.name]))
    pq.write_table(changed.replace_schema_metadata({b"genre": json.dumps(described)}), path)


def set_value(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a function that sets a value of the second row."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table = table.copy()
        table.at[1, column] = value
        return table

    return change


def lengthen_one_and_shorten_another(table: pd.DataFrame) -> pd.DataFrame:
    """Two spectrograms whose bytes, joined to all others, are as many as before: those between would be shifted."""
    bytes_ = table["spectrogram"].tolist()
    bytes_[0] += b"12"
    bytes_[3] = bytes_[3][:-2]
    return table.assign(spectrogram=bytes_)


@pytest.mark.parametrize(
    ("change", "about", "sentence"),
    [
        (set_value("tempo", np.nan), None, "1 clips of .* have values that are not finite"),
        (set_value("stamp", None), None, "1 clips of .* have no clip_id or no stamp"),
        (lambda table: table.drop(columns="tempo"), None, "lacks the column tempo"),
        (
            lengthen_one_and_shorten_another,
            None,
            "the column spectrogram of .* is binary, and must be fixed_size_binary",
        ),
        (lambda table: table, {"probe": {}}, "the reference values in .* are not complete"),
        (lambda table: table, {"probe": {"versions": {}, "values": {"mel_0": 1.0}}}, "computes other values"),
    ],
    ids=["not finite", "without a stamp", "without a column", "shifted", "no probe", "another probe"],
)
def test_an_archive_that_would_spoil_a_store_is_refused_and_leaves_none_that_refuses_a_build(
    filled, tmp_path, change, about, sentence
):
    clips, directory = filled
    path = tmp_path / "music.parquet"
    archive.export_store(clips, CONFIG, directory, path)
    rewrite(path, change, about)
    with pytest.raises(DataError, match=sentence):
        archive.restore_store(path, CONFIG, tmp_path / "other")
    assert not list((tmp_path / "other").glob("*"))
    reference_clip.check_reference(CONFIG, tmp_path / "other")


def test_clips_that_the_data_set_does_not_have_are_left_out(filled, tmp_path):
    clips, directory = filled
    path = tmp_path / "music.parquet"
    archive.export_store(clips, CONFIG, directory, path)
    good = usable(clips)
    known = pd.concat([good.iloc[:3], good.iloc[3:].assign(stamp="changed since")])
    assert archive.restore_store(path, CONFIG, tmp_path / "other", known) == 3
    assert set(contents.read_outcomes(tmp_path / "other")["clip_id"]) == set(good["clip_id"].iloc[:3])
    pd.testing.assert_frame_equal(
        contents.load_features(good.iloc[:3], tmp_path / "other"), contents.load_features(good.iloc[:3], directory)
    )


def test_nothing_to_export_leaves_no_file(filled, tmp_path):
    clips, _ = filled
    with pytest.raises(DataError, match="no usable clip"):
        archive.export_store(clips.assign(stamp="other"), CONFIG, tmp_path, tmp_path / "music.parquet")
    assert not (tmp_path / "music.parquet").exists()


def test_features_of_the_sources_own_are_not_exported(tmp_path):
    clips = pd.DataFrame({"clip_id": ["x", "y"], "stamp": "1", "status": "ok", "reason": ""})
    table = pd.DataFrame(1.5, index=pd.Index(["x", "y"]), columns=["vggish_0", "vggish_1"])
    contents.write_source_features(clips, table, tmp_path)
    with pytest.raises(DataError, match=r"its features are the source's own.* keep the source's files"):
        archive.export_store(clips, CONFIG, tmp_path, tmp_path / "music.parquet")
    assert not (tmp_path / "music.parquet").exists()
