"""State that the ledger keeps, and the order in which segments are due."""

import time

import pytest

from genre.acquisition.ledger import Ledger
from tests.support import videos


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path / "new" / "ledger.sqlite")
    ledger.enroll(videos.listed("a1", "b1", "a2", "b2", "a3", "b3"))
    return ledger


def test_the_next_segment_is_the_first_due_one_of_the_first_genre_that_has_any(ledger):
    now = time.time()
    assert ledger.next_due(["a", "b"], now)["ytid"] == "a1"
    assert ledger.next_due(["b", "a"], now)["ytid"] == "b1"
    assert ledger.next_due(["a", "b"], now, busy=["a1_5", "a2_5"])["ytid"] == "a3"
    ledger.update_segment("a1_5", next_try=now + 60)
    assert ledger.next_due(["a", "b"], now)["ytid"] == "a2"
    for clip_id in ("a2_5", "a3_5"):
        ledger.update_segment(clip_id, status="gone")
    assert ledger.next_due(["a", "b"], now)["ytid"] == "b1"
    assert ledger.next_due(["a"], now) is None
    assert ledger.next_try_time() == 0
    assert ledger.next_due(["a"], now + 61)["ytid"] == "a1"


def test_everything_is_kept_when_the_ledger_is_opened_again(ledger, tmp_path):
    ledger.update_segment("b1_5", status="done", sha256="abc", peak=0.5, last_try=1.0, attempts=1)
    ledger.add_break(2e9, "bot_check", "no")
    reopened = Ledger(tmp_path / "new" / "ledger.sqlite")  # the first was not closed, as after a kill
    row = reopened.read_segments().set_index("clip_id").loc["b1_5"]
    assert (row["status"], row["sha256"], row["peak"], row["start_s"], row["end_s"]) == ("done", "abc", 0.5, 5, 15)
    assert reopened.count_by_status() == {"waiting": 5, "done": 1, "gone": 0}
    assert reopened.done_by_genre() == {"a": 0, "b": 1}
    assert reopened.current_break(time.time())["error"] == "bot_check"
    assert reopened.current_break(2e9) is None


def test_another_selection_keeps_the_state_of_known_segments(ledger):
    ledger.update_segment("a1_5", status="done", sha256="abc")
    ledger.update_segment("b1_5", status="gone", error="geo")
    ledger.enroll(videos.listed("b1", "a1", "c1", genres="xy"))
    table = ledger.read_segments().set_index("clip_id")
    assert set(table.index) == {"b1_5", "a1_5", "c1_5"}
    assert table.loc["a1_5", ["genre", "status", "sha256"]].tolist() == ["y", "done", "abc"]
    assert table.loc["b1_5", ["genre", "status", "error"]].tolist() == ["x", "gone", "geo"]
    assert ledger.find(["clip_id"], ytid="a2") == []
    ledger.enroll(videos.listed("a1", "b1", "a2"))
    assert ledger.count_by_status() == {"waiting": 1, "done": 1, "gone": 1}


def test_breaks_are_counted_until_the_next_success(ledger):
    assert ledger.n_breaks_since_success() == 0
    ledger.add_break(0, "bot_check", "no")
    ledger.add_break(0, "bot_check", "no")
    assert ledger.n_breaks_since_success() == 2
    ledger.update_segment("a1_5", status="done", last_try=time.time() + 1, attempts=1)
    assert ledger.n_breaks_since_success() == 0
