"""What the tags of any file are asked through one function, whatever its format."""

from pathlib import Path

import pytest

from genre import tags
from genre.errors import DataError, GenreError

#: A file of Linux whose first bytes cannot be read: EIO, as from a disk that is away.
UNREADABLE = Path("/proc/self/mem")


@pytest.mark.skipif(not UNREADABLE.is_file(), reason="needs a file that the system cannot read")
@pytest.mark.parametrize("ask", [tags.read_genres, tags.read_track_tags, lambda path: tags.plan_genres(path, ["Rock"])])
def test_a_disk_that_is_away_is_no_fault_of_the_file(ask):
    with pytest.raises(GenreError, match="cannot be read at the moment") as caught:
        ask(UNREADABLE)
    assert not isinstance(caught.value, DataError)
