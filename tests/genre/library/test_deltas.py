"""Packed changes: the old bytes come out of the new ones, and what is kept is as large as the change."""

from io import BytesIO

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genre.library.deltas import Changes, unpack_changes
from genre.tags.splices import Splice, iter_spliced


def change(old: bytes, splices: list[Splice]) -> tuple[bytes, bytes]:
    """Return a file's bytes after splices, and the packed changes."""
    changes = Changes()
    pieces = list(iter_spliced(BytesIO(old), splices))
    for before, after in pieces:
        changes.add(before, after)
    return b"".join(after for _, after in pieces), changes.pack()


def undo(new: bytes, packed: bytes) -> bytes:
    file = BytesIO(new)
    return b"".join(old for _, old in iter_spliced(BytesIO(new), unpack_changes(packed, file)))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), seed=st.integers(0, 9999), n=st.integers(0, 9000), n_splices=st.integers(0, 5))
def test_the_old_bytes_come_back_after_any_change(data, seed, n, n_splices):
    rng = np.random.default_rng(seed)
    old = rng.bytes(n)
    cuts = np.sort(rng.integers(0, n + 1, 2 * n_splices)).tolist()
    sizes = st.sampled_from([0, 1, 27, 1023, 1024, 1025, 5000])
    contents = [rng.bytes(data.draw(sizes)) for _ in range(n_splices)]
    splices = [Splice(a, b, c) for a, b, c in zip(cuts[::2], cuts[1::2], contents, strict=True)]
    new, packed = change(old, splices)
    assert undo(new, packed) == old


def test_a_change_of_length_takes_a_few_bytes():
    cover = np.random.default_rng(0).bytes(400_000)
    old = b"ID3" + cover + b"TCON" + bytes(2000) + cover
    at = old.index(b"TCON")
    moved = [Splice(at, at + 14, b"TCON" + b"Jazz")]
    rewritten = [Splice(0, at + 2004, b"ID3" + cover + b"TCON" + b"Jazz")]
    for splices in (moved, rewritten, [Splice(0, 0, b"a new tag" * 1000)], [Splice(10, len(old), old[11:])]):
        new, packed = change(old, splices)
        assert undo(new, packed) == old
        assert len(packed) < 2500


def test_a_table_of_offsets_that_all_moved_takes_a_few_bytes():
    rng = np.random.default_rng(0)
    for dtype, scale in ((">u4", 1), (">u8", 1 << 20)):
        offsets = 100_000 + scale * np.cumsum(rng.integers(300, 900, 13_000))
        old, moved = (y.astype(dtype).tobytes() for y in (offsets, offsets + 1234))
        new, packed = change(old, [Splice(0, len(old), moved)])
        assert undo(new, packed) == old
        assert len(packed) < 3000
