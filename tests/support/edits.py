"""Splices applied to bytes, and what files hold for readers that are not the project's."""

from collections.abc import Sequence
from io import BytesIO

import av

from genre.tags.splices import Splice, iter_spliced


def apply_splices(data: bytes, splices: Sequence[Splice]) -> bytes:
    """The bytes after the splices."""
    return b"".join(new for _, new in iter_spliced(BytesIO(data), sorted(splices)))


def packets_of(data: bytes) -> list[tuple]:
    """Stream, times and bytes of every packet, as FFmpeg demuxes them."""
    with av.open(BytesIO(data), metadata_errors="ignore") as container:
        return [(p.stream_index, p.pts, p.dts, p.duration, bytes(p)) for p in container.demux() if p.size]
