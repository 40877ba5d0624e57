"""Contract of every data set, and the data sets ``folder`` and ``published``."""

import gzip
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from genre import datasets
from genre.audio.left_out import LeftOut
from genre.config import AudioConfig
from genre.datasets import folder
from genre.errors import DataError, UsageError
from genre.inputs.features import PUBLISHED_FEATURE_NAMES
from genre.store import computing
from tests.support import odd_files
from tests.support.sounds import tone, write_music, write_tagged_music


def load(source, tmp_path, name="folder", **options) -> pd.DataFrame:
    return datasets.load_clips(name, str(source), tmp_path, options)


def write_published(path, names, n_columns=97):
    table = pd.DataFrame(
        np.arange(len(names) * n_columns).reshape(len(names), -1), columns=list(PUBLISHED_FEATURE_NAMES)[:n_columns]
    )
    table.insert(0, "file_name", names)
    table.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", sorted(datasets.DATASETS))
def test_every_data_set_returns_the_same_columns(name, music, tmp_path):
    sources = {
        "demo": "",
        "folder": str(music),
        "gtzan": str(music),
        "published": str(write_published(tmp_path / "t.csv", ["1_a.wav", "2_b.wav"])),
        "tagged": str(write_tagged_music(tmp_path / "tagged", genres={"a": 200, "b": 300})),
    }
    if name not in sources:
        pytest.skip(f"{name} has a test file of its own")
    options = {"recordings_per_genre": 1} if name == "demo" else {}
    table = datasets.load_clips(name, sources[name], tmp_path, options)
    assert list(table.columns) == datasets.CLIP_COLUMNS
    assert table["clip_id"].is_unique
    assert set(table["genre"]) == set(table["genre"].cat.categories)
    assert (table["dataset"] == name).all()
    assert ((table["end_s"] - table["start_s"]) <= 10).all()
    assert table["stamp"].notna().all()


def test_an_unknown_data_set_or_option_is_refused_with_a_list_of_the_known_ones(music, tmp_path):
    with pytest.raises(UsageError, match=r"choose from .*demo, .*folder, .*published"):
        datasets.dataset_id("fodler", None)
    with pytest.raises(UsageError, match=r"needs -P source=PATH"):
        datasets.dataset_id("folder", "")
    with pytest.raises(UsageError, match="accepted: max_clips_per_track"):
        load(music, tmp_path, max_clips=3)


def test_two_sources_of_the_same_file_name_get_different_ids():
    assert datasets.dataset_id("folder", "/a/music") != datasets.dataset_id("folder", "/b/music")
    assert datasets.dataset_id("folder", "/a/music").startswith("folder-music-")


def test_tracks_are_cut_into_clips_that_share_a_recording(tmp_path):
    music_dir = write_music(tmp_path / "m", genres={"a": 200, "b": 300}, tracks=1, seconds=47)
    table = load(music_dir, tmp_path)
    a = table[table["genre"] == "a"]
    assert a["start_s"].tolist() == [0, 10, 20, 30, 40]
    assert a["end_s"].tolist() == [10, 20, 30, 40, 47]
    assert a["recording"].unique().tolist() == ["a/0.wav"]


def test_a_table_built_in_several_pieces_is_the_same(tmp_path, monkeypatch):
    music_dir = write_music(tmp_path / "m", genres={"a": 200, "b": 300}, tracks=1, seconds=47)
    (tmp_path / "list.csv").write_text("path,genre,split\nm/a/0.wav,a,\nm/b/0.wav,b,test\n")
    for source in (music_dir, tmp_path / "list.csv"):
        whole = load(source, tmp_path)
        monkeypatch.setattr(folder, "ROWS_PER_TABLE", 3)
        pieces = load(source, tmp_path)
        pd.testing.assert_frame_equal(pieces.fillna({"split": ""}), whole.fillna({"split": ""}), check_dtype=False)
        monkeypatch.undo()


def test_a_limit_spreads_the_clips_over_the_track(tmp_path):
    music_dir = write_music(tmp_path / "m", genres={"a": 200, "b": 300}, tracks=1, seconds=90)
    starts = load(music_dir, tmp_path, max_clips_per_track=3)["start_s"][:3].tolist()
    assert len(starts) == 3
    assert starts[0] < 30 <= starts[1] < 60 <= starts[2]


def test_nested_folders_are_searched_and_hidden_files_and_texts_are_ignored(tmp_path):
    music_dir = write_music(tmp_path / "m", genres={"a": 200, "b": 300}, tracks=1)
    (music_dir / "a" / "album").mkdir()
    sf.write(music_dir / "a" / "album" / "deep.flac", tone(10, hz=100), 22050)
    (music_dir / "a" / "._0.wav").write_bytes(b"resource fork")
    (music_dir / "a" / "notes.txt").write_text("no music")
    (music_dir / ".trash").mkdir()
    assert set(load(music_dir, tmp_path)["recording"]) == {"a/0.wav", "b/0.wav", "a/album/deep.flac"}


def test_a_source_without_music_or_with_one_genre_is_refused(tmp_path):
    with pytest.raises(DataError, match="there is no"):
        load(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="one sub-folder per genre"):
        load(tmp_path / "empty", tmp_path)
    with pytest.raises(DataError, match="only one genre"):
        load(write_music(tmp_path / "one", genres={"a": 200}), tmp_path)


def test_a_csv_can_set_recordings_splits_starts_and_ends(tmp_path):
    music_dir = write_music(tmp_path / "m", genres={"a": 200, "b": 300}, tracks=1, seconds=30)
    (tmp_path / "list.csv").write_text(
        "path,genre,recording,split,start_s,end_s\n"
        "m/a/0.wav,rock,artist 1,train,2.5,9\n"
        "m/a/0.wav,rock,artist 1,train,12,\n"
        f"{music_dir / 'b' / '0.wav'},pop,,test,,\n"
    )
    table = load(tmp_path / "list.csv", tmp_path).set_index("clip_id")
    first = table.loc["m/a/0.wav@2.5"]
    assert table.loc[["m/a/0.wav@2.5", "m/a/0.wav@12"], "recording"].tolist() == ["artist 1"] * 2
    assert (first["start_s"], first["end_s"], first["split"], first["genre"]) == (2.5, 9.0, "train", "rock")
    assert table.loc["m/a/0.wav@12", "end_s"] == 22
    assert table[table["genre"] == "pop"]["recording"].unique().tolist() == [str(music_dir / "b" / "0.wav")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,genre\nx.wav,a\n", "lacks the column path; it has file, genre"),
        ("path,genre\nx.wav,\n", "line 2: path or genre is empty"),
        ("path,genre\n", "lists no file"),
        ("", "cannot be read as CSV"),
        ("path,genre\nx.wav,a\nx.wav,b\n", "listed twice"),
        ("path,genre,start_s\nx.wav,a,0\ny.wav,b,two\n", "line 3: start_s and end_s must be seconds"),
        ("path,genre,start_s,end_s\nx.wav,a,5,5\ny.wav,b,,\n", "line 2: start_s and end_s must be seconds"),
        ("path,genre,start_s\nx.wav,a,-1\ny.wav,b,\n", "line 2: start_s and end_s must be seconds"),
    ],
)
def test_an_invalid_csv_is_refused_with_its_line(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "list.csv", tmp_path)


def test_tracks_of_one_artist_share_a_recording_and_keep_their_own_clips(tmp_path, music):
    lines = [f"{music / 'low' / f'{n}.wav'},NA,artist" for n in range(2)] + [f"{music / 'high' / '0.wav'},b,other"]
    (tmp_path / "list.csv").write_text("\n".join(["path,genre,recording", *lines]))
    table = load(tmp_path / "list.csv", tmp_path)
    assert table["recording"].tolist() == ["artist", "artist", "other"]
    assert table["genre"].tolist() == ["NA", "NA", "b"]  # "NA" is a name, not a missing value


def test_a_csv_of_a_spreadsheet_with_other_columns_is_accepted(tmp_path, music):
    rows = [f'"{music / "low" / "0.wav"}",a,0.61,"by ear, twice"', f"{music / 'high' / '0.wav'},b,,"]
    text = "\r\n".join(["path,genre,confidence,note", *rows, ""])
    (tmp_path / "list.csv").write_text(text, encoding="utf-8-sig", newline="")
    table = load(tmp_path / "list.csv", tmp_path)
    assert list(table.columns) == datasets.CLIP_COLUMNS and table["genre"].tolist() == ["a", "b"]


def test_a_start_beyond_the_end_of_the_file_is_a_row_with_its_reason(tmp_path, music):
    path = music / "low" / "0.wav"
    (tmp_path / "list.csv").write_text(f"path,genre,start_s\n{path},a,100\n{path},b,1\n")
    row = load(tmp_path / "list.csv", tmp_path).iloc[0]
    assert row["status"] == "too_short"
    assert "ends after 12.0 s" in row["reason"]


def test_another_end_changes_the_stamp(tmp_path, music):
    path = music / "low" / "0.wav"
    stamps = []
    for end in (5, 8):
        (tmp_path / "list.csv").write_text(f"path,genre,end_s\n{path},a,{end}\n{music / 'high' / '0.wav'},b,\n")
        stamps.append(load(tmp_path / "list.csv", tmp_path)["stamp"][0])
    assert stamps[0] != stamps[1]


def test_the_stamp_of_a_file_whose_header_misleads_differs_from_that_of_others(tmp_path):
    """What was computed of its beginning alone, before all of such a file was decoded, must not be used again."""
    (tmp_path / "rock").mkdir()
    flac = odd_files.by_soundfile(odd_files.part(440, 2), format="FLAC")
    for name, data in (("one", flac), ("joined", flac * 3)):
        (tmp_path / "rock" / f"{name}.flac").write_bytes(data)
    clips = folder.load_clips(tmp_path, tmp_path, LeftOut()).set_index("recording")
    sizes = {name: (tmp_path / "rock" / f"{name}.flac").stat() for name in ("one", "joined")}
    stamps = {name: f"{stat.st_size}-{stat.st_mtime_ns}" for name, stat in sizes.items()}
    assert clips.loc["rock/one.flac", "stamp"] == f"{stamps['one']}-2"
    assert clips.loc["rock/joined.flac", "stamp"] == f"{stamps['joined']}-ordered-6"


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="needs a file that the system cannot read")
def test_what_the_system_cannot_read_is_listed_as_unread_and_blames_no_file(tmp_path, music):
    (tmp_path / "rock").mkdir()
    (tmp_path / "rock" / "a.flac").symlink_to("/proc/self/mem")  # its first byte is an error of input and output
    (tmp_path / "jazz").symlink_to(music / "high")
    table = load(tmp_path, tmp_path).set_index("recording")
    assert table["status"].value_counts().to_dict() == {"pending": 4, "unread": 1}
    assert "a.flac cannot be read at the moment (Input/output error)" in table.loc["rock/a.flac", "reason"]
    row = {"clip_id": "a", "path": str(tmp_path / "rock" / "a.flac"), "stamp": "1", "start_s": 0.0, "end_s": 10.0}
    assert list(computing.compute_part(pd.DataFrame([row]), AudioConfig(), tmp_path / "s")) == ["a"]
    assert not list((tmp_path / "s").glob("*"))  # nothing is stored of it


def test_a_file_name_that_is_not_utf8_is_escaped_and_refused(tmp_path):
    music_dir = write_music(tmp_path / "m", genres={"a": 200, "b": 300}, tracks=1)
    (music_dir / "a" / "0.wav").rename(os.fsdecode(os.fsencode(music_dir / "a") + b"/caf\xe9.wav"))
    row = load(music_dir, tmp_path).set_index("genre").loc["a"]
    assert row["recording"] == r"a/caf\xe9.wav"
    assert row["status"] == "undecodable"
    assert "not UTF-8" in row["reason"]


@pytest.mark.parametrize("name", ["split", "genre", "unknown"])
def test_a_genre_with_a_reserved_name_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=f"cannot be called '{name}'"):
        load(write_music(tmp_path / "m", genres={name: 200, "b": 300}, tracks=1), tmp_path)


def test_a_listed_file_that_does_not_exist_is_a_row_with_its_reason(tmp_path, music):
    (tmp_path / "list.csv").write_text(f"path,genre\n{music / 'low' / '0.wav'},a\ngone.wav,b\n")
    row = load(tmp_path / "list.csv", tmp_path).set_index("recording").loc["gone.wav"]
    assert row["status"] == "unread"
    assert "gone.wav" in row["reason"]


def test_genres_of_the_published_table_are_read_from_the_file_names(tmp_path):
    path = write_published(tmp_path / "t.csv", ["38359_Rock_music.wav", "53#_Reggae.wav", "7_Rhythm_blues.wav"])
    table = load(path, tmp_path, "published")
    assert table["genre"].tolist() == ["Rock music", "Reggae", "Rhythm blues"]
    values = datasets.load_source_features("published", str(path))
    assert values.loc["53#_Reggae.wav"].tolist() == list(range(97, 194))


def test_a_published_table_may_be_compressed_and_must_be_complete(tmp_path):
    path = write_published(tmp_path / "t.csv", ["1_a.wav", "2_b.wav"])
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(load(tmp_path / "t.csv.gz", tmp_path, "published")) == 2
    with pytest.raises(DataError, match="has 97 columns; expected 98"):
        load(write_published(tmp_path / "u.csv", ["1_a.wav", "2_b.wav"], 96), tmp_path, "published")
    with pytest.raises(DataError, match=r"no genre in the file name '1.wav'"):
        load(write_published(tmp_path / "v.csv", ["1.wav", "2_b.wav"]), tmp_path, "published")
    (tmp_path / "w.csv").write_text(path.read_text().replace(",5,", ",,"))
    with pytest.raises(DataError, match="missing or infinite values"):
        load(tmp_path / "w.csv", tmp_path, "published")


def test_identical_rows_are_one_clip_and_different_rows_of_one_name_are_refused(tmp_path):
    path = write_published(tmp_path / "t.csv", ["1_a.wav", "2_b.wav"])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]))
    assert len(load(path, tmp_path, "published")) == 2
    assert len(datasets.load_source_features("published", str(path))) == 2
    with pytest.raises(DataError, match=r"'1_a\.wav' is listed twice"):
        load(write_published(tmp_path / "u.csv", ["1_a.wav", "1_a.wav", "2_b.wav"]), tmp_path, "published")


def test_a_real_table_of_the_published_form_is_loaded(shared, tmp_path):
    table = load(shared / "audioset_4_genres_features.csv.gz", tmp_path, "published")
    counts = {"Pop music": 1095, "Hip hop music": 1071, "Mbalax": 984, "Reggae": 984}  # one row is repeated
    assert table["genre"].value_counts().to_dict() == counts


def test_what_a_folder_of_genres_leaves_out_is_counted(music, tmp_path):
    root = tmp_path / "m"
    shutil.copytree(music, root)
    song = (root / "low" / "0.wav").read_bytes()
    for name in ("loose.wav", "...loose.wav", ".Trash-1000/a.wav", "high/.stversions/a.wav", ".git/annex/a.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(song)
    for name in ("Chiptune/a.sid", "Chiptune/b.sid", "Scans/a.jpg", ".cache/a.jpg", "low/a.mid", "cover.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    left_out = LeftOut()
    table = datasets.load_clips("folder", str(root), tmp_path, {}, left_out)
    assert set(table["genre"]) == {"high", "low"} and table["recording"].nunique() == 8
    assert left_out.to_clause() == (
        "; left out: 2 files beside the folders of genres (.wav 2)"
        ", 2 files in trash, old versions and the like (.Trash-1000, .stversions)"
        ", 3 files of types that are not decoded (.sid 2, .mid 1)"
        ", 1 folder of snapshots or versions, not searched (.git)"
        ", 2 folders without audio that is decoded (Chiptune, Scans)"
    )


def test_a_genre_may_begin_with_a_dot_or_be_a_link(music, tmp_path):
    root = tmp_path / "m"
    (root / "...core" / ".38 Special").mkdir(parents=True)
    for track in (music / "low").iterdir():
        shutil.copy(track, root / "...core" / ".38 Special" / f".{track.name}")
    (root / "linked").symlink_to(music / "high")
    (root / "again").symlink_to(root / "...core")
    left_out = LeftOut()
    table = datasets.load_clips("folder", str(root), tmp_path, {}, left_out)
    assert table.groupby("genre", observed=True)["recording"].nunique().to_dict() == {"...core": 4, "linked": 4}
    assert "1 link to folders, not followed" in left_out.to_clause()


@pytest.mark.parametrize("name", ["folder", "gtzan"])
def test_the_error_about_too_few_genres_tells_what_is_left_out(music, tmp_path, name):
    root = tmp_path / "m"
    shutil.copytree(music / "low", root / "low")
    (root / "Classical").mkdir()
    (root / "Classical" / "a.ofr").touch()
    told = (
        r"left out: 1 file of types that are not decoded \(.ofr\), 1 folder without audio that is decoded \(Classical\)"
    )
    with pytest.raises(DataError, match=rf"only one genre in .*: low; .* at least two; {told}$"):
        load(root, tmp_path, name)
    shutil.rmtree(root / "low")
    with pytest.raises(DataError, match=rf"no audio in the sub-folders of .*; {told}$"):
        load(root, tmp_path, name)


def test_a_listing_shows_that_a_genre_has_too_few_tracks(music, tmp_path):
    root = tmp_path / "m"
    shutil.copytree(music, root)
    datasets.check_listing("folder", str(root))
    n_high = len(list((root / "high").iterdir()))
    for path in sorted((root / "low").iterdir())[2:]:
        path.unlink()
    with pytest.raises(
        DataError, match=rf"each genre needs 3 or more, .*; there are high {n_high}, low 2\. Add tracks"
    ):
        datasets.check_listing("folder", str(root))


def test_recordings_are_counted_in_a_csv_too(music, tmp_path):
    files = sorted(music.rglob("*.wav"))
    table = pd.DataFrame({"path": files, "genre": [path.parent.name for path in files]})
    table.to_csv(tmp_path / "t.csv", index=False)
    datasets.check_listing("folder", str(tmp_path / "t.csv"))
    table.assign(recording="one").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"there are high 1, low 1\."):
        datasets.check_listing("folder", str(tmp_path / "t.csv"))


def test_loose_files_are_answered_with_the_ways_to_use_them(music, tmp_path):
    root = tmp_path / "my music"
    root.mkdir()
    shutil.copy(next(music.rglob("*.wav")), root)
    with pytest.raises(DataError, match=r"1 audio files in .*-P dataset=tagged.* -e tag -P source='/.*my music'$"):
        datasets.check_listing("folder", str(root))


def test_the_demo_takes_no_source(music):
    with pytest.raises(UsageError, match="data set 'demo' takes no source"):
        datasets.dataset_id("demo", str(music))


@pytest.mark.parametrize(
    ("genres", "named"),
    [
        (["Hip Hop", "hip-hop"], "'Hip Hop' and 'hip-hop'"),
        (["R & B", "R  &  B"], "'R  &  B' and 'R & B'"),
        (
            ["drum_and_bass", "Drum and Bass", "DRUM AND BASS"],
            "'DRUM AND BASS' and 'Drum and Bass' and 'drum_and_bass'",
        ),
        (["Fado ao Vivo\u0301", "Fado ao Viv\u00f3"], r"'Fado ao Vivo\u0301' and 'Fado ao Viv\xf3'"),
        (["Strasse", "Straße"], "'Strasse' and 'Straße'"),
    ],
)
def test_genres_that_differ_in_their_spelling_only_are_named_in_a_warning(music, tmp_path, caplog, genres, named):
    for genre in (*genres, "Other music"):
        shutil.copytree(music / "low", tmp_path / "m" / genre)
    table = load(tmp_path / "m", tmp_path)
    assert set(table["genre"]) == {*genres, "Other music"}
    [record] = caplog.records
    assert record.getMessage().startswith(f"the genres {named} differ only in case, spaces, hyphens or Unicode form")


def test_genres_that_differ_are_not_warned_of(music, tmp_path, caplog):
    load(music, tmp_path)
    assert not caplog.records


def test_folders_whose_names_are_not_utf8_stop_nothing(music, tmp_path):
    root = tmp_path / "m"
    shutil.copytree(music, root)
    for name in (b"low/caf\xe9", b"caf\xe9", b"\xe9mpty"):
        (root / os.fsdecode(name)).mkdir()
    for name in (b"low/caf\xe9", b"caf\xe9"):
        shutil.copy(music / "low" / "0.wav", root / os.fsdecode(name))
    left_out = LeftOut()
    table = datasets.load_clips("folder", str(root), tmp_path, {}, left_out)
    refused = table[table["status"] == "undecodable"]
    assert refused["genre"].tolist() == [r"caf\xe9", "low"]
    assert all("not UTF-8; rename the file" in reason for reason in refused["reason"])
    assert left_out.to_clause() == r"; left out: 1 folder without audio that is decoded (\xe9mpty)"
    table.to_parquet(tmp_path / "clips.parquet")
