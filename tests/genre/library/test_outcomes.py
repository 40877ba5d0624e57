"""Result of tagging one file: a value, and a cell of the table."""

import pytest
import soundfile as sf

from genre.library import tagging
from genre.library.outcomes import TagOutcome, TagStatus, tag_file
from genre.library.undo import UndoFile
from tests.support.sounds import tone

DRY = {"dry_run": True, "overwrite": False}


@pytest.mark.parametrize(
    ("before", "options", "outcome", "cell"),
    [
        ("", {}, TagOutcome(TagStatus.WOULD_BE_WRITTEN), "would be written"),
        ("", {"dry_run": False}, TagOutcome(TagStatus.WRITTEN), "written"),
        ("low", {}, TagOutcome(TagStatus.THERE_ALREADY), "there already"),
        ("Jazz", {"dry_run": False}, TagOutcome(TagStatus.KEPT, "Jazz"), "kept: Jazz"),
        ("a: b", {}, TagOutcome(TagStatus.KEPT, "a: b"), "kept: a: b"),
        ("Jazz", {"overwrite": True}, TagOutcome(TagStatus.WOULD_REPLACE, "Jazz"), "would replace: Jazz"),
    ],
)
def test_the_outcome_of_a_file_is_a_value_and_a_cell_of_the_table(tmp_path, before, options, outcome, cell):
    path = tmp_path / "a.flac"
    undo = UndoFile(tmp_path / "undo.jsonl")
    sf.write(path, tone(2, hz=110), 22050)
    if before:
        tagging.write_genres(path, [before], undo)
    found = tag_file(path, ["low"], undo, **DRY | options)
    assert found == outcome and str(found) == cell


def test_a_file_that_cannot_be_tagged_is_refused_with_the_reason(tmp_path):
    (tmp_path / "text.flac").write_text("no music")
    refused = tag_file(tmp_path / "text.flac", ["low"], UndoFile(tmp_path / "undo.jsonl"), **DRY)
    assert refused.status is TagStatus.REFUSED and str(refused).startswith("refused: ")
