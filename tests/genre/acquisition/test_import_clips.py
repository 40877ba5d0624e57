"""Import of clips that other tools downloaded."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile as sf

from genre.acquisition import import_clips
from genre.acquisition.ledger import Ledger
from genre.audio import decoding
from genre.errors import DataError
from tests.support import videos


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return videos.song(tmp_path_factory.mktemp("song") / "song.wav", seconds=25, sr=22050)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def import_from(ledger: Ledger, source: Path) -> dict[str, int]:
    return dict(import_clips.import_files(ledger, source, source.parent / "audio", 22050, "flac", lambda: None))


def read_clips(ledger: Ledger, folder: Path) -> dict[str, np.ndarray]:
    done = ledger.read_segments().query("status == 'done'")
    return {row["ytid"]: sf.read(folder / "audio" / row["path"], dtype="float32")[0] for _, row in done.iterrows()}


def wav_of(song: bytes, seconds: float, start_s: float = 5.0) -> bytes:
    out = io.BytesIO()
    sf.write(out, decoding.decode_audio(song, sr=22050, start_s=start_s, duration_s=seconds), 22050, format="WAV")
    return out.getvalue()


def test_videos_are_cut_and_clips_are_kept_whole_under_all_known_names(ledger, song, tmp_path):
    ids = ["-abcdefghij", "k_mnopqrstu", "aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc"]
    ledger.enroll(videos.listed(*ids))
    folder = tmp_path / "files" / "deep"
    folder.mkdir(parents=True)
    (folder / "-abcdefghij.wav").write_bytes(song)
    (folder / "k_mnopqrstu_5.000.wav").write_bytes(wav_of(song, 10.03))
    (folder / "Yaaaaaaaaaaa_5000_15000.wav").write_bytes(wav_of(song, 10))
    (folder / "bbbbbbbbbbb_6.wav").write_bytes(wav_of(song, 10))  # another segment of that video
    (folder / "zzzzzzzzzzz.wav").write_bytes(song)
    (folder / "ccccccccccc.mp3").write_bytes(b"no audio")
    (folder / "notes.txt").write_text("no audio either")
    assert import_from(ledger, tmp_path / "files") == {"adopted": 3, "not wanted": 2, "undecodable": 1}
    expected = decoding.decode_audio(song, sr=22050, start_s=5, duration_s=10)
    clips = read_clips(ledger, tmp_path)
    assert set(clips) == set(ids[:3])
    for y in clips.values():
        assert np.abs(y - expected).max() < 2**-13
    assert import_from(ledger, tmp_path / "files") == {"known": 3, "not wanted": 2, "undecodable": 1}
    assert len(list(folder.iterdir())) == 7  # the source is unchanged


def test_a_segment_that_is_gone_can_be_imported_from_a_folder(ledger, song, tmp_path):
    ledger.enroll(videos.listed("-abcdefghij"))
    ledger.update_segment("-abcdefghij_5", status="gone", error="private", message="Private video")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "-abcdefghij.wav").write_bytes(wav_of(song, 7))
    assert import_from(ledger, tmp_path / "files") == {"adopted": 1}
    row = ledger.read_segments().iloc[0]
    assert (row["status"], row["error"], row["format"], row["attempts"]) == ("done", "", "adopted", 0)
    assert row["padded_s"] == pytest.approx(3)


def test_the_papers_files_are_matched_by_their_number(ledger, song, tmp_path):
    table = videos.listed("-abcdefghij", "bbbbbbbbbbb")
    ledger.enroll(table.assign(number=[1000, 10004]))
    (tmp_path / "wav_files").mkdir()
    (tmp_path / "wav_files" / "1000_Reggae.wav").write_bytes(wav_of(song, 10.03))  # eleven letters, as an id
    (tmp_path / "wav_files" / "10004_Rhythm_blues.wav").write_bytes(wav_of(song, 10.03))
    (tmp_path / "wav_files" / "77_Techno.wav").write_bytes(wav_of(song, 10.03))
    assert import_from(ledger, tmp_path / "wav_files") == {"adopted": 2, "not wanted": 1}


@pytest.mark.parametrize("form", ["bytes", "structure"])
def test_clips_are_imported_from_the_rows_of_a_parquet_file(ledger, song, tmp_path, form):
    ledger.enroll(videos.listed("-abcdefghij", "bbbbbbbbbbb"))
    contents = [wav_of(song, 10), song, song, None]
    column = contents if form == "bytes" else [{"bytes": c, "path": "x.flac"} for c in contents]
    table = pa.table({"video_id": ["-abcdefghij", "bbbbbbbbbbb", "not wanted", "bbbbbbbbbbb"], "audio": column})
    pq.write_table(table, tmp_path / "mirror.parquet")
    assert import_from(ledger, tmp_path / "mirror.parquet") == {"adopted": 2, "not wanted": 1, "known": 1}
    expected = decoding.decode_audio(song, sr=22050, start_s=5, duration_s=10)
    for y in read_clips(ledger, tmp_path).values():
        assert np.abs(y - expected).max() < 2**-13


def test_a_source_without_clips_is_refused(ledger, tmp_path):
    ledger.enroll(videos.listed("-abcdefghij"))
    with pytest.raises(DataError, match=r"there is no .*nowhere"):
        import_from(ledger, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no audio and no Parquet file in"):
        import_from(ledger, tmp_path / "empty")
    pd.DataFrame({"video_id": ["a"], "sound": [b""]}).to_parquet(tmp_path / "empty" / "x.parquet")
    with pytest.raises(DataError, match="has the columns video_id, sound; it needs a column audio"):
        import_from(ledger, tmp_path / "empty")


def test_the_papers_own_clips_are_imported(shared, ledger, tmp_path):
    files = sorted((shared / "audioset_clips").glob("*.wav"))
    numbers = [int(p.name.split("_")[0]) for p in files]
    table = videos.listed(*[f"v{n:010d}" for n in numbers], start_s=30, end_s=40).assign(number=numbers)
    ledger.enroll(table)
    outcomes = import_clips.import_files(
        ledger, shared / "audioset_clips", tmp_path / "audio", 44100, "flac", lambda: None
    )
    assert outcomes == {"adopted": 9}
    assert set(ledger.read_segments()["duration_s"]) == {10}
