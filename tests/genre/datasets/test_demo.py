"""Demo corpus: reproducible by its seed, complete or absent on disk, and audible."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from scipy import signal

from genre.datasets import demo
from genre.errors import GenreError, UsageError

PAPER_ORDER = ["Hip hop", "Pop", "Vocal", "Rhythm and blues", "Reggae", "Rock", "Techno"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    directory = tmp_path_factory.mktemp("demo")
    return directory, demo.load_clips(None, directory, recordings_per_genre=2, seed=3)


@pytest.fixture
def two_genres(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restrict the corpus to two genres, to save time."""
    monkeypatch.setattr(demo, "GENRES", {genre: demo.GENRES[genre] for genre in PAPER_ORDER[:2]})


def file_bytes(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_the_table_lists_three_clips_per_recording(corpus):
    directory, table = corpus
    assert list(table["genre"].cat.categories) == PAPER_ORDER
    assert table["genre"].value_counts().to_dict() == dict.fromkeys(PAPER_ORDER, 6)
    assert table["clip_id"].is_unique
    assert table.groupby("recording")["start_s"].apply(list).map(lambda s: s == [0.0, 10.0, 20.0]).all()
    assert ((table["end_s"] - table["start_s"]) == 10).all()
    assert (table["dataset"] == "demo").all() and (table["status"] == "pending").all() and (table["reason"] == "").all()
    assert table["split"].isna().all()
    row = table.set_index("clip_id").loc["Rhythm and blues/01@10"]
    assert row["recording"] == "Rhythm and blues/01"
    assert Path(row["path"]) == directory.resolve() / "audio" / "Rhythm and blues" / "01.flac"


def test_files_are_30_s_mono_and_marked_as_synthetic(corpus):
    _, table = corpus
    for path in table["path"].unique():
        with sf.SoundFile(path) as f:
            assert (f.samplerate, f.channels, f.frames, f.subtype) == (22050, 1, 661500, "PCM_16")
            assert "synthetic" in f.comment


def test_every_clip_is_audible_and_not_clipped(corpus):
    _, table = corpus
    for row in table.itertuples():
        y, _ = sf.read(row.path, start=round(row.start_s * 22050), stop=round(row.end_s * 22050))
        assert np.abs(y).max() <= 0.96
        assert y.std() > 0.003, row.clip_id
        assert abs(y.mean()) < 0.01


@pytest.mark.parametrize("genre", PAPER_ORDER)
def test_recordings_have_their_length_and_finite_samples_in_range(genre):
    y = demo.render_recording(genre, 5, seed=1)
    assert y.shape == (661500,) and np.isfinite(y).all() and np.abs(y).max() <= 0.951


def test_the_same_seed_gives_the_same_samples_and_another_seed_others():
    y = demo.render_recording("Techno", 4, seed=11)
    assert np.array_equal(y, demo.render_recording("Techno", 4, seed=11))
    others = [("Techno", 4, 12), ("Techno", 5, 11), ("Rock", 4, 11)]
    assert not any(np.array_equal(y, demo.render_recording(g, n, seed=s)) for g, n, s in others)


def test_a_recording_does_not_depend_on_the_size_of_the_corpus(corpus, tmp_path):
    directory, table = corpus
    fewer = demo.load_clips(None, tmp_path, recordings_per_genre=1, seed=3)
    assert file_bytes(tmp_path).items() <= file_bytes(directory).items()
    stamps = table.set_index("clip_id")["stamp"]
    assert (fewer.set_index("clip_id")["stamp"] == stamps[fewer["clip_id"]]).all()


def test_complete_files_are_kept_and_damaged_ones_replaced(tmp_path, two_genres):
    table = demo.load_clips(None, tmp_path, recordings_per_genre=3)
    before = file_bytes(tmp_path)
    paths = [Path(p) for p in table["path"].unique()]
    truncated, garbage, empty, missing, *complete = paths
    truncated.write_bytes(truncated.read_bytes()[:50_000])
    garbage.write_bytes(b"not audio")
    empty.write_bytes(b"")
    missing.unlink()
    (missing.parent / "00.flac.77.tmp").write_bytes(b"left by a killed run")
    times = [p.stat().st_mtime_ns for p in complete]
    repeated = demo.load_clips(None, tmp_path, recordings_per_genre=3)
    pd.testing.assert_frame_equal(table, repeated)
    assert {k: v for k, v in file_bytes(tmp_path).items() if not k.endswith(".tmp")} == before
    assert [p.stat().st_mtime_ns for p in complete] == times


def test_files_of_another_seed_are_replaced_and_their_stamp_changes(tmp_path, two_genres):
    first = demo.load_clips(None, tmp_path, recordings_per_genre=1, seed=0)
    before = file_bytes(tmp_path)
    second = demo.load_clips(None, tmp_path, recordings_per_genre=1, seed=1)
    assert all(before[k] != v for k, v in file_bytes(tmp_path).items())
    assert (first["stamp"] != second["stamp"]).all()


def test_no_partial_file_is_left_when_writing_fails(tmp_path, monkeypatch):
    def interrupted(genre: str, number: int, *, seed: int) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "render_recording", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.load_clips(None, tmp_path, recordings_per_genre=1)
    assert file_bytes(tmp_path) == {}


def test_no_note_ends_in_a_click():
    """Each pitched instrument has faded by its last samples."""
    for genre, (_, timbre, _) in demo.GENRES.items():
        for instrument in {*timbre.bass, *timbre.chords, *timbre.lead}:
            y = instrument(196.0, 9000)
            assert y.shape == (9000,) and np.isfinite(y).all()
            assert np.abs(y[-5:]).max() < 0.05 * np.abs(y).max(), (genre, instrument.__name__)


def test_patterns_fill_a_bar():
    for rhythm, _, _ in demo.GENRES.values():
        for part in ("kick", "snare", "hat", "bass", "chords", "lead"):
            assert all(len(p) == 16 and set(p) <= set("xo.") for p in getattr(rhythm, part))


def test_an_unknown_genre_is_refused():
    with pytest.raises(UsageError, match="'Jazz'"):
        demo.render_recording("Jazz", 0)


@pytest.mark.parametrize(
    "argument", [{"source": "music"}, {"recordings_per_genre": 0}, {"recordings_per_genre": -1}, {"seed": -1}]
)
def test_arguments_out_of_range_are_refused(tmp_path, argument):
    with pytest.raises(UsageError, match=str(*argument.values())):
        demo.load_clips(**{"source": None, "directory": tmp_path, **argument})
    assert not list(tmp_path.iterdir())


def test_the_sawtooth_is_that_of_scipy_to_the_bit():
    phase = np.concatenate([np.linspace(0, 300, 50_001), 2 * np.pi * np.arange(200), [1e-300, np.nextafter(0, 1)]])
    assert np.array_equal(demo._sawtooth(phase), signal.sawtooth(phase))


def test_several_processes_write_the_files_that_one_writes(tmp_path, two_genres, monkeypatch):
    monkeypatch.setattr(demo, "cpu_count", lambda: 1)
    table = demo.load_clips(None, tmp_path / "by one", recordings_per_genre=3)
    monkeypatch.setattr(demo, "cpu_count", lambda: 2)
    monkeypatch.setattr(demo, "MIN_PER_PROCESS", 2)
    monkeypatch.setattr(demo, "BATCH", 2)
    by_two = demo.load_clips(None, tmp_path / "by two", recordings_per_genre=3)
    assert file_bytes(tmp_path / "by two") == file_bytes(tmp_path / "by one")
    pd.testing.assert_frame_equal(by_two.drop(columns="path"), table.drop(columns="path"))


def test_a_process_that_cannot_write_says_why(tmp_path, two_genres, monkeypatch):
    monkeypatch.setattr(demo, "MIN_PER_PROCESS", 1)
    monkeypatch.setattr(demo, "cpu_count", lambda: 2)
    (tmp_path / "audio").write_text("a file where the folder belongs")
    with pytest.raises(GenreError, match=r"the demo corpus cannot be written \((FileExists|NotADirectory)Error"):
        demo.load_clips(None, tmp_path, recordings_per_genre=1)
