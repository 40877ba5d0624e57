"""Builds that lose clips which were usable."""

import pandas as pd
import pytest

from flows.parameters import MAX_LOST
from genre.errors import DataError
from genre.store import outcomes


def clips(**status: str) -> pd.DataFrame:
    """Clips table with a status for each id."""
    reasons = ["" if value == "ok" else f"{name}.wav: the reason" for name, value in status.items()]
    return pd.DataFrame({"clip_id": list(status), "status": list(status.values()), "reason": reasons})


BEFORE = clips(a="ok", b="ok", c="duplicate_of_test", d="ok", e="undecodable")


@pytest.mark.parametrize(
    ("before", "built", "n_unread", "sentence"),
    [
        (BEFORE, clips(a="ok", b="unread", c="unread", d="ok"), 0, r"2 of 4 clips .*'b': b\.wav: the reason"),
        (BEFORE, clips(a="ok", b="ok", c="undecodable", d="silent"), 0, r"2 of 4 clips .*'c': c\.wav: the reason"),
        (BEFORE, clips(a="ok", b="ok"), 0, "2 of 4 clips .*the source no longer has 'c'"),
        (None, clips(a="ok", b="ok", c="unread"), 1, r"1 of 3 clips .*'c'"),
    ],
    ids=["unread", "unusable", "not listed", "first build"],
)
def test_a_build_that_loses_more_than_a_quarter_stops_with_the_reason(before, built, n_unread, sentence):
    with pytest.raises(DataError, match=f"{sentence}.*the data set stays as it was"):
        outcomes.check_loss(before, built, n_unread, MAX_LOST)
    outcomes.check_loss(before, built, n_unread, 1.0)


def test_a_build_that_loses_a_quarter_goes_on_and_so_does_one_of_files_that_never_were_usable():
    outcomes.check_loss(BEFORE, clips(a="ok", b="ok", c="ok", d="unread"), 0, MAX_LOST)
    outcomes.check_loss(None, clips(a="ok", b="undecodable", c="undecodable"), 0, MAX_LOST)
    outcomes.check_loss(BEFORE, clips(x="ok", y="ok", z="ok", a="unread"), 0, MAX_LOST)  # renamed
