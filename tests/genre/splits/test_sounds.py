"""Recordings known again by their sound, from files that were renamed and encoded again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from prefect.logging import disable_run_logger

from flows.build import recognise_renamed
from genre import config
from genre.config import AudioConfig
from genre.splits import sounds
from genre.store import building, contents
from genre.workspace import Workspace
from tests.genre.splits.test_duplicates import piece

CONFIG = AudioConfig()
NAME = sounds.name_fingerprints(CONFIG)


def list_clips(folder: Path, workspace: Workspace) -> pd.DataFrame:
    """Put the files of a folder into the store and the clips table of a workspace."""
    rows = [(p.name, str(p), 0.0, 10.0, p.name, str(p.stat().st_mtime_ns)) for p in sorted(folder.iterdir())]
    clips = pd.DataFrame(rows, columns=["clip_id", "path", "start_s", "end_s", "recording", "stamp"])
    clips = clips.assign(status="pending", reason="", dataset="folder")
    building.build_store(clips, CONFIG, workspace.store_dir(CONFIG), n_jobs=1)
    clips = contents.with_outcomes(clips, workspace.store_dir(CONFIG))
    workspace.write_clips(clips)
    return clips


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace("mine")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pieces."""
    (tmp_path / "music").mkdir()
    for n in range(8):
        sf.write(tmp_path / "music" / f"{n}.wav", piece(n), CONFIG.sr)
    return tmp_path / "music"


def encode_and_rename(folder: Path) -> None:
    """Replace the first six files by others of the same music: renamed, softer, later, and as MP3 and Ogg."""
    for n in range(6):
        y = sf.read(folder / f"{n}.wav", dtype="float32")[0]
        (folder / f"{n}.wav").unlink()
        y = {1: y * 0.3, 2: y[CONFIG.sr // 2 :]}.get(n, y)
        sf.write(folder / f"new {n}.{('wav', 'flac', 'wav', 'mp3', 'ogg', 'mp3')[n]}", y, CONFIG.sr)
    sf.write(folder / "other.wav", piece(20), CONFIG.sr)


def recognise(workspace: Workspace, assigned: pd.DataFrame | None) -> pd.DataFrame | None:
    with disable_run_logger():
        return recognise_renamed(workspace, CONFIG, assigned)


def test_recordings_of_another_name_and_encoding_keep_their_split(workspace, folder):
    clips = list_clips(folder, workspace)
    assert recognise(workspace, None) is None
    splits = ["train", "test", "validation", "train", "test", "validation", "train", "test"]
    assigned = pd.DataFrame({"recording": clips["recording"].astype(str), "split": splits})
    encode_and_rename(folder)
    list_clips(folder, workspace)
    known = recognise(workspace, assigned)
    found = dict(zip(known["recording"], known["split"], strict=True))
    assert [found.get(f"new {n}.{s}") for n, s in enumerate(("wav", "flac", "wav", "mp3", "ogg", "mp3"))] == splits[:6]
    assert "other.wav" not in found and len(known) == 14
    pd.testing.assert_frame_equal(recognise(workspace, known), known)  # nothing is new the second time


def test_recordings_are_known_again_after_another_feature_has_raised_the_version(workspace, folder, monkeypatch):
    clips = list_clips(folder, workspace)
    assert recognise(workspace, None) is None
    assigned = pd.DataFrame({"recording": clips["recording"].astype(str), "split": "test"})
    monkeypatch.setattr(config, "FEATURES_VERSION", config.FEATURES_VERSION + 1)
    encode_and_rename(folder)
    list_clips(folder, workspace)
    assert len(list(workspace.store_dir(CONFIG).parent.iterdir())) == 2
    known = recognise(workspace, assigned)
    assert {f"new {n}.{s}" for n, s in enumerate(("wav", "flac", "wav", "mp3", "ogg", "mp3"))} < set(known["recording"])


def test_a_workspace_of_an_older_version_learns_the_sounds_of_what_is_assigned(workspace, folder):
    clips = list_clips(folder, workspace)
    assigned = pd.DataFrame({"recording": clips["recording"].astype(str), "split": "test"})
    pd.testing.assert_frame_equal(recognise(workspace, assigned), assigned)
    assert set(pd.read_parquet(workspace.sounds_path(NAME))["recording"]) == set(clips["recording"])


def test_the_recordings_that_a_model_learnt_are_found(workspace, folder):
    clips = list_clips(folder, workspace)
    store = workspace.store_dir(CONFIG)
    learnt = sounds.fingerprint_clips(clips.iloc[:4], store, CONFIG)
    assert learnt.attrs == {"name": NAME}
    encode_and_rename(folder)
    test = list_clips(folder, workspace)
    fingerprints = sounds.fingerprint_clips(test, store, CONFIG)
    found = sounds.find_learnt_recordings(test.set_index("clip_id"), fingerprints, learnt)
    assert found == ["new 0.wav", "new 1.flac", "new 2.wav", "new 3.mp3"]


def test_different_music_and_short_clips_are_not_the_same_sound(workspace, tmp_path):
    (tmp_path / "short").mkdir()
    for n in range(12):
        sf.write(tmp_path / "short" / f"{n}.wav", piece(n, seconds=1.2)[: int(1.2 * CONFIG.sr)], CONFIG.sr)
    clips = list_clips(tmp_path / "short", workspace)
    table = sounds.fingerprint_clips(clips, workspace.store_dir(CONFIG), CONFIG)
    assert (table["n_frames"] < 15).all()
    i, j = np.triu_indices(len(table), 1)
    assert sounds.sign_similarities(table.iloc[i], table.iloc[j]).max() < sounds.MIN_SIMILARITY_SHORT
    np.testing.assert_allclose(sounds.sign_similarities(table, table), 1, atol=1e-5)
    assert sounds.match_sounds(table.iloc[:6], table.iloc[6:]).empty


def test_nothing_is_known_of_no_music(workspace, folder):
    table = sounds.fingerprint_clips(list_clips(folder, workspace), workspace.store_dir(CONFIG), CONFIG)
    assert sounds.match_sounds(table.head(0), table).empty and sounds.match_sounds(table, table.head(0)).empty
