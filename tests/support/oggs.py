"""Ogg files taken apart and put together by mutagen's pages."""

from io import BytesIO

import numpy as np
from mutagen.ogg import OggPage


def read_pages(data: bytes) -> list[OggPage]:
    """All pages; each is as mutagen would write it, and has a position only if a packet ends on it."""
    file = BytesIO(data)
    pages = []
    while file.tell() < len(data):
        pages.append(OggPage(file))
        assert (pages[-1].position == -1) == (len(pages[-1].packets) == 1 and not pages[-1].complete)
        assert pages[-1].write() == data[pages[-1].offset : file.tell()]
    return pages


def read_streams(data: bytes) -> list[list[bytes]]:
    """Packets of every logical stream, whose pages have to be numbered one after the other."""
    streams: list[list[OggPage]] = []
    running: dict[int, list[OggPage]] = {}
    for page in read_pages(data):
        if page.first:
            running[page.serial] = []
            streams.append(running[page.serial])
        running[page.serial].append(page)
    assert all([page.sequence for page in pages] == list(range(len(pages))) for pages in streams)
    return [OggPage.to_packets(pages, strict=False) for pages in streams]


def replace_packet(data: bytes, packet: bytes, page_size: int = 4096, serial: int | None = None) -> bytes:
    """Replace the second packet of a file of one stream, and write the headers to pages of some size."""
    first, *pages = read_pages(data)
    n_headers = next(n for n, page in enumerate(pages) if page.position > 0)
    headers = OggPage.to_packets(pages[:n_headers])
    headers = paginate([packet, *headers[1:]], page_size // 255)
    pages = [first, *headers, *pages[n_headers:]]
    for n, page in enumerate(pages):
        page.sequence = n
        page.serial = first.serial if serial is None else serial
    return b"".join(page.write() for page in pages)


def paginate(packets: list[bytes], n_segments: int) -> list[OggPage]:
    """Pages of so many segments each; mutagen's own pages overflow if the first packet nearly fills one."""
    segments = []
    for packet in packets:
        sizes = [255] * (len(packet) // 255) + [len(packet) % 255]
        ends = np.cumsum(sizes)
        segments += [packet[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    pages = []
    is_continued = False
    for start in range(0, len(segments), n_segments):
        page = OggPage()
        page.packets, page.continued = [b""], is_continued
        for segment in segments[start : start + n_segments]:
            page.packets[-1] += segment
            if len(segment) < 255:
                page.packets.append(b"")
        page.complete = page.packets[-1] == b""
        if page.complete:
            page.packets.pop()
        page.position = 0 if page.complete or len(page.packets) > 1 else -1
        is_continued = not page.complete
        pages.append(page)
    return pages
