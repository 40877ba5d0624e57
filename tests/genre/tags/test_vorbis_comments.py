"""Genres in a block of Vorbis comments, against mutagen's reader."""

import struct

import pytest
from mutagen._vorbis import VComment

from genre.errors import DataError
from genre.tags.vorbis.comments import new_comments, parse_comments, plan_comments
from tests.support.edits import apply_splices


def make_block(*fields: bytes, vendor: bytes = b"test", rest: bytes = b"") -> bytes:
    texts = [vendor, *fields]
    lengths = [struct.pack("<I", len(text)) + text for text in texts]
    return lengths[0] + struct.pack("<I", len(fields)) + b"".join(lengths[1:]) + rest


ODD = [b"TITLE=caf\xe9", b"no equals sign", b"K\xc3\x89Y=value", b"=empty name", b"", b"DATE=", b"A=b=c", b"genres=no"]


@pytest.mark.parametrize("old", [[], [b"GENRE=Jazz"], [b"genre=Jazz", b"Genre=Pop"], [b"GENRE="], [b"GENRE=caf\xe9"]])
@pytest.mark.parametrize("genres", [["Rock"], ["Fado & Chanson — 日本", "Rock"], []])
def test_all_other_fields_and_what_follows_keep_bytes_and_order(old, genres):
    block = make_block(*ODD[:3], *old[:1], *ODD[3:], *old[1:], rest=b"\1\0\0rest")
    edited = apply_splices(block, plan_comments(block, genres))
    name = old[0].partition(b"=")[0] if old else b"GENRE"
    new = [name + b"=" + genre.encode() for genre in genres]
    expected = [*ODD[:3], *new, *ODD[3:]] if old else [*ODD, *new]
    assert edited == make_block(*expected, rest=b"\1\0\0rest")
    assert parse_comments(edited).genres == genres


def test_mutagen_reads_what_is_written():
    block = make_block(b"TITLE=x", b"Genre=Jazz", rest=b"\1")
    edited = apply_splices(block, plan_comments(block, ["Rock", "日本"]))
    assert VComment(edited) == [("TITLE", "x"), ("Genre", "Rock"), ("Genre", "日本")]
    assert VComment(new_comments(["Rock"]), framing=False) == [("GENRE", "Rock")]


def test_a_genre_that_is_not_utf8_is_read():
    assert parse_comments(make_block(b"GENRE=Chans\xe3o")).genres == ["Chansão"]


@pytest.mark.parametrize("length", range(len(make_block(b"GENRE=Jazz"))))
def test_a_block_that_breaks_off_is_an_error(length):
    with pytest.raises(DataError, match="Vorbis comments"):
        parse_comments(make_block(b"GENRE=Jazz")[:length])


def test_a_count_or_length_that_lies_is_an_error():
    with pytest.raises(DataError, match="break off"):
        parse_comments(b"\0\0\0\0\xff\xff\xff\xff")
    with pytest.raises(DataError, match="behind their end"):
        parse_comments(b"\xff\xff\xff\xff\0\0\0\0")
