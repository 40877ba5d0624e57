"""Result of tagging one file: a value, a cell of the table, and a line of the dry run."""

from pathlib import Path

import pytest
import soundfile as sf

from genre import tags
from genre.library import tagging
from genre.library.outcomes import TagOutcome, TagStatus, tag_file
from genre.library.replacing import state_stamp
from genre.library.undo import UndoFile
from tests.support.sounds import tone

DRY = {"dry_run": True, "overwrite": False}


@pytest.fixture
def undo(tmp_path: Path) -> UndoFile:
    return UndoFile(tmp_path / "undo.jsonl")


@pytest.fixture
def track(tmp_path: Path) -> Path:
    path = tmp_path / "a.flac"
    sf.write(path, tone(2, hz=110), 22050)
    return path


@pytest.mark.parametrize(
    ("before", "proposed", "options", "status", "cell", "line"),
    [
        ([], ["low"], {}, TagStatus.WOULD_BE_WRITTEN, "would be written", "(none) → low"),
        ([], ["low", "hum"], {}, TagStatus.WOULD_BE_WRITTEN, "would be written", "(none) → low; hum"),
        ([], ["low"], {"dry_run": False}, TagStatus.WRITTEN, "written", "(none) → low"),
        (["low"], ["low"], {}, TagStatus.THERE_ALREADY, "there already", "low → low (there already)"),
        (["Jazz"], ["low"], {"dry_run": False}, TagStatus.KEPT, "kept: Jazz", "Jazz → low (kept)"),
        (["a: b", "c"], ["low"], {}, TagStatus.KEPT, "kept: a: b; c", "a: b; c → low (kept)"),
        (["Jazz"], ["low"], {"overwrite": True}, TagStatus.WOULD_REPLACE, "would replace: Jazz", "Jazz → low"),
    ],
)
def test_the_outcome_of_a_file_is_a_value_a_cell_and_a_line(track, undo, before, proposed, options, status, cell, line):
    if before:
        tagging.write_genres(track, before, undo)
    found = tag_file(track, proposed, undo, **DRY | options)
    assert found == TagOutcome(status, tuple(proposed), tuple(before))
    assert (str(found), found.describe_change()) == (cell, line)
    assert tags.read_genres(track) == (proposed if status is TagStatus.WRITTEN else before)


@pytest.mark.parametrize(
    ("before", "proposed", "status", "status_of_overwrite"),
    [
        (["Hip Hop"], ["Hip Hop"], TagStatus.THERE_ALREADY, TagStatus.THERE_ALREADY),
        (["hip-hop"], ["Hip Hop"], TagStatus.THERE_ALREADY, TagStatus.WOULD_REPLACE),
        (["Ｈｉｐ  Hop"], ["Hip Hop"], TagStatus.THERE_ALREADY, TagStatus.WOULD_REPLACE),
        (["Rock", "Pop"], ["Rock", "Pop"], TagStatus.THERE_ALREADY, TagStatus.THERE_ALREADY),
        (["Pop", "Rock"], ["Rock", "Pop"], TagStatus.KEPT, TagStatus.WOULD_REPLACE),
        (["Rock"], ["Rock", "Pop"], TagStatus.KEPT, TagStatus.WOULD_REPLACE),
        (["Rock", "Pop"], ["Rock"], TagStatus.KEPT, TagStatus.WOULD_REPLACE),
    ],
)
def test_genres_are_compared_by_value_and_order_and_when_overwriting_by_spelling(
    track, undo, before, proposed, status, status_of_overwrite
):
    tagging.write_genres(track, before, undo)
    assert tag_file(track, proposed, undo, **DRY).status is status
    assert tag_file(track, proposed, undo, **DRY | {"overwrite": True}).status is status_of_overwrite


def test_a_file_whose_tags_cannot_be_read_is_refused_with_the_reason(tmp_path, undo):
    (tmp_path / "text.flac").write_text("no music")
    refused = tag_file(tmp_path / "text.flac", ["low"], undo, **DRY)
    assert (refused.status, refused.present) == (TagStatus.REFUSED, None)
    assert str(refused) == f"refused: {refused.reason}" and "text.flac" in refused.reason
    assert refused.describe_change() == f"? → low (refused: {refused.reason})"


def test_a_file_that_must_not_be_changed_is_refused_and_keeps_its_genre(track, undo):
    tagging.write_genres(track, ["Jazz"], undo)
    track.chmod(0o444)
    refused = tag_file(track, ["low"], undo, dry_run=False, overwrite=True)
    assert refused.describe_change().startswith("Jazz → low (refused: ") and "read-only" in str(refused)
    assert tags.read_genres(track) == ["Jazz"]


def test_a_dry_run_refuses_what_a_write_would_refuse(tmp_path, undo):
    path = tmp_path / "cut.wav"
    sf.write(path, tone(2, hz=110), 22050)
    path.write_bytes(path.read_bytes()[:-500])
    found = tag_file(path, ["low"], undo, **DRY)
    assert found.status is TagStatus.REFUSED and "500 bytes more than the file has" in found.reason
    assert tag_file(path, ["low"], undo, dry_run=False, overwrite=True) == found
    assert not undo.path.exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_another_file_in_the_place_of_the_one_that_was_predicted_is_refused(track, undo, dry_run):
    stamp = state_stamp(track.stat())
    sf.write(track, tone(3, hz=500), 22050)
    other = track.read_bytes()
    refused = tag_file(track, ["low"], undo, dry_run=dry_run, overwrite=True, stamp=stamp)
    assert refused.status is TagStatus.REFUSED and "has changed since its genre was predicted" in refused.reason
    assert track.read_bytes() == other
    stamp = state_stamp(track.stat())
    assert tag_file(track, ["low"], undo, dry_run=False, overwrite=True, stamp=stamp).stamp == state_stamp(track.stat())
