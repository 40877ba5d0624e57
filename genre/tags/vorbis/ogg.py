"""Genres in an Ogg file: in the Vorbis comments that are the second packet of each of its audio streams."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from genre.errors import DataError
from genre.tags.splices import Splice, count_growth, shift_splices
from genre.tags.vorbis.comments import parse_comments, plan_comments
from genre.tags.vorbis.pages import Page, check_page, read_body, read_logical_streams
from genre.tags.vorbis.repagination import first_packet_size, plan_pages, renumber_pages


@dataclass(frozen=True)
class _Codec:
    """Mapping of a codec to Ogg: how its first two packets begin, and the bytes between comments and padding."""

    first: bytes
    second: bytes
    n_framing: int = 0


#: Vorbis I, section 4.2.1, with a byte for the framing bit; RFC 7845, section 5; the Speex manual, section 8; CELT,
#: which is like Speex.
_CODECS = (
    _Codec(b"\x01vorbis", b"\x03vorbis", n_framing=1),
    _Codec(b"OpusHead", b"OpusTags"),
    _Codec(b"Speex   ", b""),
    _Codec(b"CELT    ", b""),
)

#: RFC 9639, section 10.1: the second packet is a block of FLAC metadata of type 4, with its header.
_FLAC = _Codec(b"\x7fFLAC", bytes(4))
_FLAC_TYPE = 4

#: First packet of a Skeleton stream, and the version from which on it has an index of byte positions:
#: https://wiki.xiph.org/Ogg_Skeleton_4.
_SKELETON = b"fishead\0"
_INDEXED_VERSION = 4


@dataclass(frozen=True)
class _Comments:
    """Comment packet of a logical stream.

    Attributes
    ----------
    codec : _Codec
        Codec of the stream.
    pages, later : list of Page
        Pages on which the packet lies, and those that follow.
    bodies : list of bytes
        Segments of the former.
    size : int
        Size of the packet, bytes.
    """

    codec: _Codec
    pages: list[Page]
    later: list[Page]
    bodies: list[bytes]
    size: int

    @property
    def start(self) -> int:
        return len(self.codec.second)

    @property
    def packet(self) -> bytes:
        return b"".join(self.bodies)[: self.size]


def read_genres(file: BinaryIO) -> list[str]:
    """Read the genres of all audio streams of an Ogg file, one after the other.

    Raises
    ------
    DataError
        If pages or comments are broken, or no stream is of a known codec.
    """
    packets = _find_comments(file, read_logical_streams(file))
    return [genre for comments in packets for genre in parse_comments(comments.packet[comments.start :]).genres]


def plan_genres(file: BinaryIO, genres: Sequence[str]) -> list[Splice]:
    """Plan the splices that make `genres` the only genres of every audio stream of an Ogg file.

    Padding behind the comments takes up or gives the difference if it can. Otherwise the last page of the comments
    does. Only if it cannot hold the difference, a page is added and the later ones of the stream are renumbered.

    Raises
    ------
    DataError
        If pages or comments are broken, no stream is of a known codec, or an index of byte positions would be wrong.
    """
    streams = read_logical_streams(file)
    splices = []
    for comments in _find_comments(file, streams):
        for page in comments.pages:
            check_page(file, page)
        pages, n_added = plan_pages(comments.pages, comments.bodies, _edit_packet(comments, genres))
        splices += pages
        if n_added:
            splices += renumber_pages(file, comments.later, n_added)
    if count_growth(splices) and any(_is_index(read_body(file, stream[0])) for stream in streams):
        raise DataError("its Ogg Skeleton has an index of byte positions, which would be wrong")
    return splices


def _is_index(first: bytes) -> bool:
    """Return whether a first packet begins a stream with an index of byte positions."""
    return first.startswith(_SKELETON) and int.from_bytes(first[8:10], "little") >= _INDEXED_VERSION


def _find_comments(file: BinaryIO, streams: list[list[Page]]) -> list[_Comments]:
    """Find the comment packets of all streams of a known codec."""
    packets = []
    for stream in streams:
        first = read_body(file, stream[0])
        packets += [_read_comments(file, stream, codec) for codec in (*_CODECS, _FLAC) if first.startswith(codec.first)]
    if not packets:
        raise DataError("none of its Ogg streams is Vorbis, Opus, FLAC or Speex")
    return packets


def _read_comments(file: BinaryIO, stream: list[Page], codec: _Codec) -> _Comments:
    """Read the second packet of a stream, which begins on the second page."""
    bodies: list[bytes] = []
    while not bodies or not stream[len(bodies)].ends_packet:
        if len(stream) == len(bodies) + 1:
            raise DataError("an Ogg stream ends before its comments do")
        bodies.append(read_body(file, stream[len(bodies) + 1]))
    pages = stream[1 : len(bodies) + 1]
    if not stream[0].ends_packet or any(page.is_continued != (page is not pages[0]) for page in pages):
        raise DataError("the comments of an Ogg stream do not begin on its second page")
    comments = _Comments(codec, pages, stream[len(bodies) + 1 :], bodies, first_packet_size(pages))
    if not _begins_comments(comments):
        raise DataError("the second packet of an Ogg stream holds no comments")
    return comments


def _begins_comments(comments: _Comments) -> bool:
    """Return whether a packet begins as one of comments does."""
    begin = comments.packet[: comments.start]
    if comments.codec is _FLAC:
        return len(begin) == comments.start and begin[0] & 0x7F == _FLAC_TYPE
    return begin == comments.codec.second


def _edit_packet(comments: _Comments, genres: Sequence[str]) -> list[Splice]:
    """Plan the splices of a packet."""
    block = comments.packet[comments.start :]
    edits = plan_comments(block, genres)
    edits = shift_splices(edits + _adjust_padding(comments, block, count_growth(edits)), comments.start)
    if comments.codec is _FLAC:
        size = comments.size - comments.start + count_growth(edits)
        if size >= 1 << 24:
            raise DataError("its comments would take more than the 16 MB that a block of FLAC metadata holds")
        edits.append(Splice(1, 4, size.to_bytes(3, "big")))
    return edits


def _adjust_padding(comments: _Comments, block: bytes, growth: int) -> list[Splice]:
    """Plan the splice of zeros at the end of a block that make up for a growth; none if no padding can.

    Bytes that are not zero are left alone: RFC 7845, section 5.2, lets Opus keep binary data there.
    """
    start = parse_comments(block).end + comments.codec.n_framing
    padding = block[start:]
    if not growth or not padding or any(padding) or growth > len(padding):
        return []
    return [Splice(len(block) - max(growth, 0), len(block), bytes(max(-growth, 0)))]
