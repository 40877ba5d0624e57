"""Kinds of tagged music files as people have them: what players, shops, DJ software and rippers leave behind.

Each kind is made of a short sound of its format, byte by byte where no library writes such a tag.
"""

import random
import struct
import zlib
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import av
import mutagen
import numpy as np
import soundfile as sf
from mutagen.flac import FLAC, CueSheet, CueSheetTrack, CueSheetTrackIndex, Picture, SeekPoint
from mutagen.mp4 import MP4, MP4Cover, MP4FreeForm

from tests.support.oggs import replace_packet
from tests.support.sounds import SR, mux, tone
from tests.support.tag_bytes import ape_tag, frame, id3, id3v1, synchsafe

Sounds = Mapping[str, bytes]

#: Bytes that no tag writer may change: they compress badly, hold zeros and look like frame synchronisation.
NOISE = random.Random(0).randbytes(3000) + b"\xff\xfb\xe0\0\0\0\xff\xff"
COVER = b"\xff\xd8\xff\xe0" + random.Random(1).randbytes(40_000) + b"\xff\xd9"
RUSSIAN = "Название".encode("cp1251")


@dataclass(frozen=True)
class Kind:
    """Kind of tagged file: how it is made, and why it is refused if it is, with any genre or with several."""

    suffix: str
    make: Callable[[Sounds], bytes]
    refused: str = ""
    refused_several: str = ""


def make_sounds(folder: Path) -> dict[str, bytes]:
    """A short sound of every format, without tags."""
    y = tone(0.5, hz=300, sr=SR)
    for suffix in ("mp3", "wav", "aiff", "flac", "ogg", "w64", "caf", "rf64", "au"):
        name = folder / f"a.{suffix}"
        sf.write(name, y, SR)
    sf.write(folder / "a.opus", tone(0.5, hz=300, sr=48000), 48000, format="OGG", subtype="OPUS")
    sf.write(folder / "float.wav", y, SR, subtype="FLOAT")
    sf.write(folder / "extensible.wav", y, SR, format="WAVEX", subtype="PCM_24")
    sf.write(folder / "odd.wav", y[:2001], SR, subtype="PCM_U8")
    sf.write(folder / "odd.aiff", y[:2001], SR, subtype="PCM_S8")
    sf.write(folder / "sowt.aiff", y, SR, endian="LITTLE")
    planar = av.AudioFrame.from_ndarray(np.stack([y, y]), format="fltp", layout="stereo")
    pcm = (np.stack([y, y]).T.reshape(1, -1) * 20_000).astype(np.int16)
    for name, codec, container, rate in (
        ("a.aac", "aac", "adts", SR),
        ("a.m4a", "aac", "mp4", SR),
        ("a.mov", "aac", "mov", SR),
        ("a.3gp", "aac", "3gp", SR),
        ("a.webm", "libopus", "webm", 48000),
        ("a.mka", "libopus", "matroska", 48000),
        ("a.ac3", "ac3", "ac3", SR),
        ("a.wv", "wavpack", "wv", SR),
    ):
        mux(folder / name, planar, codec, container, rate)
    mux(folder / "a.wma", planar, "wmav2", "asf", SR, bit_rate=128_000)
    for name, codec, container, layout in (
        ("a.mp2", "mp2", "mp2", "s16"),
        ("a.tta", "tta", "tta", "s16"),
        ("flac.ogg", "flac", "ogg", "s16"),
        ("flac.mka", "flac", "matroska", "s16"),
    ):
        mux(folder / name, av.AudioFrame.from_ndarray(pcm, format=layout, layout="stereo"), codec, container, SR)
    alac = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.reshape(-1, 2).T), format="s16p", layout="stereo")
    mux(folder / "alac.m4a", alac, "alac", "ipod", SR)
    for name, options in (
        ("faststart.m4a", {"movflags": "faststart"}),
        ("fragmented.m4a", {"movflags": "frag_keyframe+empty_moov", "frag_duration": "100000"}),
        ("fragmented_base.m4a", {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "100000"}),
        ("dash.m4a", {"movflags": "dash+global_sidx", "frag_duration": "100000"}),
    ):
        _mux_with(folder / name, y, options)
    _mux_video(folder / "video.mp4", y, "mp4", {"movflags": "faststart"})
    _mux_video(folder / "video.mkv", y, "matroska", {})
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _mux_with(path: Path, y: np.ndarray, options: dict[str, str]) -> None:
    """Encode an MP4 with options of FFmpeg's muxer."""
    with av.open(str(path), "w", format="mp4", options=options) as out:
        stream = out.add_stream("aac", rate=SR, layout="mono")
        for start in range(0, len(y), 1024):
            part = av.AudioFrame.from_ndarray(y[None, start : start + 1024].copy(), format="fltp", layout="mono")
            part.sample_rate, part.pts = SR, start
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))


def _mux_video(path: Path, y: np.ndarray, container: str, options: dict[str, str]) -> None:
    """Encode sound with moving pictures between it."""
    with av.open(str(path), "w", format=container, options=options) as out:
        pictures = out.add_stream("mpeg4", rate=25, width=32, height=32, pix_fmt="yuv420p")
        stream = out.add_stream("aac", rate=SR, layout="mono")
        for n in range(12):
            picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 20 * n, np.uint8), format="rgb24")
            out.mux(pictures.encode(picture))
            part = av.AudioFrame.from_ndarray(y[None, n * 1024 : (n + 1) * 1024].copy(), format="fltp", layout="mono")
            part.sample_rate, part.pts = SR, n * 1024
            out.mux(stream.encode(part))
        out.mux([*pictures.encode(None), *stream.encode(None)])


def frames(version: int, *pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join(frame(version, name, content) for name, content in pairs)


def mp3(*pairs: tuple[bytes, bytes], version: int = 3, behind: bytes = b"", **options: int) -> Kind:
    """An MP3 with an ID3v2 tag of frames, and other tags behind the sound."""
    return Kind("mp3", lambda s: id3(version, frames(version, *pairs), **options) + s["a.mp3"] + behind)


def raw_mp3(tag: bytes, behind: bytes = b"", *, refused: str = "", refused_several: str = "") -> Kind:
    return Kind("mp3", lambda s: tag + s["a.mp3"] + behind, refused, refused_several)


def by_mutagen(suffix: str, edit: Callable[[mutagen.FileType], object], sound: str = "") -> Kind:
    """A file whose tags mutagen writes."""

    def make(sounds: Sounds) -> bytes:
        file = BytesIO(sounds[sound or f"a.{suffix}"])
        tagged = mutagen.File(file)
        if tagged.tags is None:
            tagged.add_tags()
        edit(tagged)
        file.seek(0)
        tagged.save(file)
        return file.getvalue()

    return Kind(suffix, make)


def text(value: str) -> bytes:
    return b"\1" + value.encode("utf-16")


TITLE = (b"TIT2", b"\0Title")
ARTIST = (b"TPE1", b"\0AC/DC")
JAZZ = (b"TCON", b"\0Jazz")
SERATO = (b"GEOB", b"\0application/octet-stream\0\0Serato Markers2\0\1\1" + b64encode(NOISE))
TRAKTOR = (b"PRIV", b"TRAKTOR4\0" + NOISE)
SEARCH = [(b"TSP", b"\0Artist, sorted"), (b"TSA", b"\0Album, sorted"), (b"PCS", bytes(4)), (b"WFD", b"http://feed")]
CHAPTER = b"chp0\0" + struct.pack(">4I", 0, 200, 0xFFFFFFFF, 0xFFFFFFFF)
PICTURE = (b"APIC", b"\0image/jpeg\0\3\0" + COVER)
V1 = id3v1(genre=8, title=RUSSIAN, artist=b"Artist", comment=b"bought in Lisbon")
V1_BLANK = id3v1(genre=0)
GAIN = [
    ("REPLAYGAIN_TRACK_GAIN", b"-6.2 dB"),
    ("MP3GAIN_MINMAX", b"000,255"),
    ("Cover Art (Front)", b"a.jpg\0" + COVER),
]
LYRICS = b"LYRICSBEGININD0000200LYR00005words" + b"000034" + b"LYRICS200"


def extended_header(content: bytes, version: int, rest: bytes) -> bytes:
    """An ID3v2 tag with an extended header."""
    return b"ID3" + bytes([version, 0, 0x40]) + synchsafe(len(content) + len(rest)) + content + rest


_CRC_FRAMES = frames(3, TITLE, JAZZ)

MP3 = {
    "mp3 without a tag": raw_mp3(b""),
    "mp3 ID3v2.2 of iTunes": mp3((b"TT2", b"\0Title"), (b"TCO", b"\0(8)"), *SEARCH, version=2),
    "mp3 ID3v2.3": mp3(TITLE, ARTIST),
    "mp3 ID3v2.3 with padding": mp3(TITLE, JAZZ, ARTIST, padding=2000),
    "mp3 ID3v2.3 with a byte of padding": mp3(TITLE, JAZZ, padding=1),
    "mp3 ID3v2.3 unsynchronised": mp3(TITLE, JAZZ, (b"PRIV", b"x\0" + NOISE), flags=0x80),
    "mp3 ID3v2.3 extended header": raw_mp3(extended_header(b"\0\0\0\x06" + bytes(6), 3, frames(3, TITLE, JAZZ))),
    "mp3 ID3v2.3 extended header with CRC": raw_mp3(
        extended_header(b"\0\0\0\x0a\x80\0" + bytes(4) + zlib.crc32(_CRC_FRAMES).to_bytes(4, "big"), 3, _CRC_FRAMES),
        refused="checksum",
    ),
    "mp3 ID3v2.3 genre as number": mp3(TITLE, (b"TCON", b"\0(17)")),
    "mp3 ID3v2.3 genre with refinement": mp3(TITLE, (b"TCON", b"\0(4)Eurodisco")),
    "mp3 ID3v2.3 two genre frames": mp3(JAZZ, TITLE, (b"TCON", b"\0Folk"), ARTIST),
    "mp3 ID3v2.3 empty genre": mp3(TITLE, (b"TCON", b"\0"), ARTIST),
    "mp3 ID3v2.3 grouped genre": raw_mp3(
        id3(3, frame(3, b"TIT2", b"\0T") + frame(3, b"TCON", b"\x80\0Jazz", flags=0x20)),
        refused="group",
    ),
    "mp3 ID3v2.3 compressed genre": raw_mp3(
        id3(3, frame(3, b"TCON", (5).to_bytes(4, "big") + zlib.compress(b"\0Jazz"), flags=0x80)),
    ),
    "mp3 ID3v2.3 compressed comment": raw_mp3(
        id3(3, frame(3, b"COMM", (500).to_bytes(4, "big") + zlib.compress(b"\0eng" + bytes(496)), flags=0x80)),
    ),
    "mp3 ID3v2.4": mp3(TITLE, (b"TDRC", b"\x031999-01"), version=4),
    "mp3 ID3v2.4 several genres": mp3((b"TCON", b"\3Jazz\0Folk"), TITLE, version=4, padding=30),
    "mp3 ID3v2.4 with footer": mp3(TITLE, JAZZ, version=4, flags=0x10),
    "mp3 ID3v2.4 behind the sound": raw_mp3(b"", id3(4, frames(4, TITLE, JAZZ), flags=0x10)),
    "mp3 ID3v2.4 sizes of old iTunes": raw_mp3(
        id3(4, frame(4, *PICTURE, plain=True) + frame(4, *JAZZ, plain=True) + frame(4, *TITLE, plain=True))
    ),
    "mp3 ID3v2.4 frames with data length": raw_mp3(
        id3(4, frame(4, b"APIC", synchsafe(len(PICTURE[1])) + PICTURE[1], flags=1) + frame(4, *JAZZ))
    ),
    "mp3 ID3v2.4 unsynchronised frame": raw_mp3(
        id3(4, frame(4, b"PRIV", b"x\0\xff\0\xfb\xff\0\0end", flags=2) + frame(4, *JAZZ))
    ),
    "mp3 two ID3v2 tags": raw_mp3(id3(3, frames(3, TITLE)) + id3(4, frames(4, JAZZ, ARTIST))),
    "mp3 zeros before the sound": raw_mp3(id3(3, frames(3, TITLE)) + bytes(900)),
    "mp3 repeated frames": mp3(ARTIST, ARTIST, (b"COMM", b"\0eng\0one"), (b"COMM", b"\0eng\0two"), JAZZ),
    "mp3 Serato": mp3(SERATO, JAZZ, TITLE, (b"GEOB", SERATO[1].replace(b"Markers2", b"Overview"))),
    "mp3 Traktor": mp3(TRAKTOR, TITLE, (b"PRIV", b"www.amazon.com\0" + NOISE), JAZZ),
    "mp3 rekordbox and Mixed In Key": mp3(
        (b"TKEY", b"\x008A"), (b"GEOB", b"\0application/json\0\0Key\0" + NOISE), JAZZ
    ),
    "mp3 chapters": mp3((b"CHAP", CHAPTER + frame(4, *TITLE)), (b"CTOC", b"toc\0\3\1chp0\0"), JAZZ, version=4),
    "mp3 cover": mp3(PICTURE, TITLE, JAZZ),
    "mp3 cover behind the genre": mp3(JAZZ, PICTURE),
    "mp3 ReplayGain": mp3(
        (b"RGAD", NOISE[:8]), (b"RVA2", b"track\0\1\xff\x11\0"), (b"TXXX", b"\0replaygain_track_gain\0-6 dB"), JAZZ
    ),
    "mp3 ratings and play counts": mp3((b"POPM", b"Windows Media Player 9 Series\0\xff\0\0\0\7"), (b"PCNT", bytes(4))),
    "mp3 identifiers": mp3((b"UFID", b"http://musicbrainz.org\0" + NOISE[:36]), (b"MCDI", NOISE[:804]), JAZZ),
    "mp3 unknown and broken frames": mp3(
        (b"XSOP", b"\0Beatles, The"), (b"TIT2", b"\1\xff\xfeT"), (b"ZZZZ", NOISE), JAZZ
    ),
    "mp3 lyrics and iTunes": mp3(
        (b"USLT", b"\1eng\xff\xfe\0\0" + "текст".encode("utf-16")),
        (b"COMM", b"\0engiTunNORM\x00 0001"),
        (b"TCMP", b"\x001"),
    ),
    "mp3 cp1251 in Latin-1 frames": mp3((b"TIT2", b"\0" + RUSSIAN), (b"TPE1", b"\0" + RUSSIAN), JAZZ),
    "mp3 genre in UTF-16": mp3(TITLE, (b"TCON", text("Джаз")), padding=10),
    "mp3 ID3v1 beside ID3v2": mp3(TITLE, behind=V1),
    "mp3 ID3v1 zero-filled": mp3(TITLE, behind=V1_BLANK),
    "mp3 ID3v1 alone": raw_mp3(b"", V1, refused_several="convert it to ID3v2"),
    "mp3 ID3v1 extended": mp3(TITLE, behind=b"TAG+" + bytes(180) + b"\1" + b"Jazz".ljust(30, b"\0") + bytes(12) + V1),
    "mp3 Lyrics3 and ID3v1": mp3(TITLE, JAZZ, behind=LYRICS + V1),
    "mp3 APEv2 of MP3Gain": mp3(TITLE, behind=ape_tag(GAIN)),
    "mp3 APEv2 with the genre": raw_mp3(b"", ape_tag([("Title", b"T"), ("Genre", b"Jazz"), *GAIN])),
    "mp3 APEv2 and ID3v1": mp3(TITLE, behind=ape_tag([("genre", b"Jazz"), *GAIN]) + V1),
    "mp3 APEv1": raw_mp3(
        b"", ape_tag([("Title", b"T"), ("Genre", b"Jazz")], version=1000), refused_several="APE tag of version 1"
    ),
}

STREAMS = {
    "mp2": Kind("mp2", lambda s: s["a.mp2"]),
    "mp2 ID3v2.3": Kind("mp2", lambda s: id3(3, frames(3, TITLE, JAZZ)) + s["a.mp2"]),
    "aac": Kind("aac", lambda s: s["a.aac"]),
    "aac ID3v2.3 and ID3v1": Kind("aac", lambda s: id3(3, frames(3, TITLE, JAZZ)) + s["a.aac"] + V1),
    "tta": Kind("tta", lambda s: s["a.tta"]),
    "tta ID3v2.3": Kind("tta", lambda s: id3(3, frames(3, TITLE, PICTURE)) + s["a.tta"]),
    "tta APEv2": Kind("tta", lambda s: s["a.tta"] + ape_tag([("Genre", b"Jazz"), *GAIN])),
    "wv": Kind("wv", lambda s: s["a.wv"]),
    "wv APEv2": Kind(
        "wv",
        lambda s: (
            s["a.wv"] + ape_tag([("Title", b"T"), *GAIN, ("GENRE", b"Jazz"), ("Cover Art (Back)", b"b.jpg\0" + NOISE)])
        ),
    ),
    "wv APEv2 and ID3v1": Kind("wv", lambda s: s["a.wv"] + ape_tag([("Title", b"T")]) + V1),
    "ac3": Kind("ac3", lambda s: s["a.ac3"], refused="unsupported format"),
    "au": Kind("au", lambda s: s["a.au"], refused="unsupported format"),
    "caf": Kind("caf", lambda s: s["a.caf"], refused="unsupported format"),
}


def flac_blocks(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Blocks of a FLAC file, and its frames."""
    blocks = []
    at = 4
    while not blocks or not data[at - 4 - len(blocks[-1][1])] & 0x80:
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        blocks.append((data[at] & 0x7F, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return blocks, data[at:]


def flac(*added: tuple[int, bytes], before: bytes = b"", behind: bytes = b"") -> Kind:
    """A FLAC file of its first block and others."""

    def make(sounds: Sounds) -> bytes:
        blocks, sound = flac_blocks(sounds["a.flac"])
        kept = [blocks[0], *added]
        headers = [bytes([kind | (0x80 if n == len(kept) - 1 else 0)]) for n, (kind, _) in enumerate(kept)]
        parts = [h + len(c).to_bytes(3, "big") + c for h, (_, c) in zip(headers, kept, strict=True)]
        return before + b"fLaC" + b"".join(parts) + sound + behind

    return Kind("flac", make)


def comments(*fields: bytes) -> bytes:
    """A block of Vorbis comments."""
    parts = [b"some encoder", *fields]
    lengths = [len(part).to_bytes(4, "little") for part in parts]
    return (
        lengths[0]
        + parts[0]
        + len(fields).to_bytes(4, "little")
        + b"".join(n + part for n, part in zip(lengths[1:], parts[1:], strict=True))
    )


def edit_flac(tagged: FLAC) -> None:
    """Give a FLAC file every block that there is."""
    tagged["genre"] = "Jazz"
    picture = Picture()
    picture.data, picture.mime, picture.type = COVER, "image/jpeg", 3
    tagged.add_picture(picture)
    tagged.cuesheet = CueSheet(None)
    track = CueSheetTrack(1, 0)
    track.indexes.append(CueSheetTrackIndex(1, 0))
    tagged.cuesheet.tracks += [track, CueSheetTrack(170, 22050)]
    tagged.cuesheet.lead_in_samples = 88200
    tagged.metadata_blocks.append(tagged.cuesheet)
    if tagged.seektable:
        tagged.seektable.seekpoints.append(SeekPoint(0, 0, 4096))


_FLAC_FIELDS = (b"TITLE=T", b"GENRE=Jazz", b"ARTIST=ok \xc3\xa9", b"REPLAYGAIN_TRACK_GAIN=-6.20 dB")
_FLAC_PICTURE = (3).to_bytes(4, "big") + b"\0\0\0\x0aimage/jpeg" + bytes(20) + len(COVER).to_bytes(4, "big") + COVER

COMMENTS = {
    "flac": Kind("flac", lambda s: s["a.flac"]),
    "flac without comments": flac(),
    "flac without padding": flac((4, comments(*_FLAC_FIELDS))),
    "flac with padding": flac((4, comments(*_FLAC_FIELDS)), (1, bytes(2000))),
    "flac comments in Latin-1": flac(
        (4, comments(b"TITLE=caf\xe9", b"K\xc3\x89Y=value", b"no equals sign", b"=empty"))
    ),
    "flac repeated genres and fields": flac((4, comments(b"genre=Jazz", b"ARTIST=A", b"Genre=Folk", b"ARTIST=B"))),
    "flac cover behind the comments": flac((4, comments(*_FLAC_FIELDS)), (6, _FLAC_PICTURE)),
    "flac cover before the comments": flac((6, _FLAC_PICTURE), (1, bytes(8)), (4, comments(*_FLAC_FIELDS))),
    "flac application block": flac((2, b"SONY" + NOISE), (4, comments(*_FLAC_FIELDS)), (2, b"riff" + NOISE)),
    "flac cue sheet and seek table": by_mutagen("flac", edit_flac),
    "flac ID3v2 before": flac((4, comments(b"TITLE=T")), before=id3(3, frames(3, TITLE, JAZZ, PICTURE))),
    "flac ID3v1 behind": flac((4, comments(*_FLAC_FIELDS)), (1, bytes(99)), behind=V1),
    "flac APEv2 behind": flac((4, comments(*_FLAC_FIELDS)), behind=ape_tag([("Genre", b"Jazz"), *GAIN])),
}


def ogg(prefix: bytes, *fields: bytes, sound: str, suffix: str, page: int = 4096, rest: bytes = b"") -> Kind:
    """An Ogg file with these comments."""
    return Kind(suffix, lambda s: replace_packet(s[sound], prefix + comments(*fields) + rest, page))


def chained(sound: str, prefix: bytes, rest: bytes = b"") -> Callable[[Sounds], bytes]:
    """Two Ogg files, one after the other, as stations on the web send them."""
    fields = ((b"TITLE=one", b"GENRE=Jazz"), (b"TITLE=two", b"GENRE=Folk", b"X=" + NOISE))
    packets = [prefix + comments(*one) + rest for one in fields]
    return lambda s: b"".join(replace_packet(s[sound], packet, 4096, n + 7) for n, packet in enumerate(packets))


_OGG_PICTURE = b"METADATA_BLOCK_PICTURE=" + b64encode(_FLAC_PICTURE * 3)
_OPUS_FIELDS = (b"TITLE=T", b"GENRE=Jazz", b"R128_TRACK_GAIN=-573", b"ODD=caf\xe9")

OGG = {
    "ogg vorbis": Kind("ogg", lambda s: s["a.ogg"]),
    "ogg vorbis comments": ogg(b"\3vorbis", *_FLAC_FIELDS, sound="a.ogg", suffix="ogg", rest=b"\1"),
    "ogg vorbis padding": ogg(b"\3vorbis", *_FLAC_FIELDS, sound="a.ogg", suffix="ogg", rest=b"\1" + bytes(500)),
    "ogg vorbis cover over pages": ogg(
        b"\3vorbis", b"GENRE=Jazz", _OGG_PICTURE, sound="a.ogg", suffix="ogg", rest=b"\1", page=65025
    ),
    "ogg vorbis cover before the genre": ogg(
        b"\3vorbis", _OGG_PICTURE, b"GENRE=Jazz", sound="a.ogg", suffix="ogg", rest=b"\1"
    ),
    "ogg vorbis chained": Kind("ogg", chained("a.ogg", b"\3vorbis", b"\1")),
    "opus": Kind("opus", lambda s: s["a.opus"]),
    "opus comments": ogg(b"OpusTags", *_OPUS_FIELDS, sound="a.opus", suffix="opus"),
    "opus padding": ogg(b"OpusTags", *_OPUS_FIELDS, sound="a.opus", suffix="opus", rest=bytes(700)),
    "opus data behind the comments": ogg(b"OpusTags", *_OPUS_FIELDS, sound="a.opus", suffix="opus", rest=b"\1" + NOISE),
    "opus cover over pages": ogg(b"OpusTags", b"TITLE=T", _OGG_PICTURE, sound="a.opus", suffix="opus", page=65025),
    "opus chained": Kind("opus", chained("a.opus", b"OpusTags")),
    "ogg flac": Kind("oga", lambda s: s["flac.ogg"]),
    "ogg flac tagged": by_mutagen("oga", lambda f: f.tags.update(genre="Jazz", title="T"), "flac.ogg"),
}


def edit_mp4(tagged: MP4) -> None:
    """Give an MP4 what iTunes, MusicBrainz and DJ software write."""
    tagged["\xa9nam"] = "Title"
    tagged["\xa9gen"] = ["Jazz", "Folk"]
    tagged["covr"] = [MP4Cover(COVER, MP4Cover.FORMAT_JPEG)]
    tagged["trkn"] = [(1, 9)]
    tagged["cpil"] = True
    tagged["----:com.apple.iTunes:iTunSMPB"] = MP4FreeForm(b" 00000000 00000840 000001CA")
    tagged["----:com.apple.iTunes:replaygain_track_gain"] = MP4FreeForm(b"-6.20 dB")
    tagged["----:com.serato.dj:markersv2"] = MP4FreeForm(b64encode(NOISE))


def box(name: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), name) + content


def in_udta(added: bytes, sound: str = "a.m4a") -> Callable[[Sounds], bytes]:
    """An MP4 whose last box, the header, has a box of user data in place of FFmpeg's."""

    def make(sounds: Sounds) -> bytes:
        data = sounds[sound]
        start = data.rindex(b"moov") - 4
        end = data.rindex(b"udta") - 4
        return data[:start] + box(b"moov", data[start + 8 : end], box(b"udta", added))

    return make


def item(name: bytes, flags: int, value: bytes) -> bytes:
    return box(name, box(b"data", struct.pack(">II", flags, 0), value))


def meta(*items: bytes) -> bytes:
    return box(b"meta", bytes(4), box(b"hdlr", bytes(8), b"mdirappl", bytes(9)), box(b"ilst", *items))


_NAME = item(b"\xa9nam", 1, b"Title")
_FREE_GENRE = box(
    b"----",
    box(b"mean", bytes(4), b"com.apple.iTunes"),
    box(b"name", bytes(4), b"GENRE"),
    box(b"data", struct.pack(">II", 1, 0), b"Jazz"),
)

MP4S = {
    "m4a": Kind("m4a", lambda s: s["a.m4a"]),
    "m4a header first": Kind("m4a", lambda s: s["faststart.m4a"]),
    "m4a tagged": by_mutagen("m4a", edit_mp4),
    "m4a tagged, header first": by_mutagen("m4a", edit_mp4, "faststart.m4a"),
    "m4a lossless": by_mutagen("m4a", edit_mp4, "alac.m4a"),
    "m4a genre as number": Kind("m4a", in_udta(meta(_NAME, item(b"gnre", 0, b"\0\x09")))),
    "m4a number for no genre": Kind("m4a", in_udta(meta(item(b"gnre", 0, b"\0\0"), _NAME))),
    "m4a genre in free form": Kind("m4a", in_udta(meta(_NAME, _FREE_GENRE))),
    "m4a Nero chapters": Kind("m4a", in_udta(box(b"chpl", b"\1\0\0\0\0\0\0\0\1", bytes(8), b"\5Start") + meta(_NAME))),
    "m4a without user data": Kind("m4a", in_udta(b"")),
    "m4a free space behind the tags": Kind(
        "m4a", in_udta(meta(_NAME, item(b"\xa9gen", 1, b"Jazz")) + box(b"free", bytes(300)))
    ),
    "m4a fragmented": Kind("m4a", lambda s: s["fragmented.m4a"]),
    "m4a fragmented, own base": Kind("m4a", lambda s: s["fragmented_base.m4a"]),
    "m4a dash": Kind("m4a", lambda s: s["dash.m4a"]),
    "mp4 music video, header first": Kind("mp4", lambda s: s["video.mp4"]),
    "mov": Kind("mov", lambda s: s["a.mov"]),
    "3gp": Kind("3gp", lambda s: s["a.3gp"]),
}


def riff(*chunks: tuple[bytes, bytes], sound: str = "a.wav", first: bytes = b"") -> Callable[[Sounds], bytes]:
    """A WAV file with other chunks before and behind its sound."""

    def make(sounds: Sounds) -> bytes:
        body = sounds[sound][12:]
        added = b"".join(name + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for name, c in chunks)
        return b"RIFF" + struct.pack("<I", 4 + len(first + body + added)) + b"WAVE" + first + body + added

    return make


def info(*items: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    parts = [name + struct.pack("<I", len(c)) + c + bytes(len(c) % 2) for name, c in items]
    return b"LIST", b"INFO" + b"".join(parts)


def form(*chunks: tuple[bytes, bytes], sound: str = "a.aiff") -> Callable[[Sounds], bytes]:
    """An AIFF file with other chunks behind its sound."""

    def make(sounds: Sounds) -> bytes:
        body = sounds[sound][12:]
        added = b"".join(name + struct.pack(">I", len(c)) + c + bytes(len(c) % 2) for name, c in chunks)
        return b"FORM" + struct.pack(">I", 4 + len(body + added)) + sounds[sound][8:12] + body + added

    return make


BEXT = b"bext" + struct.pack("<I", 602) + b"Description".ljust(256, b"\0") + NOISE[:346]
CUE = (b"cue ", struct.pack("<I2I4s3I", 1, 1, 100, b"data", 0, 0, 100))
LABELS = (b"LIST", b"adtl" + b"labl" + struct.pack("<2I", 8, 1) + b"One\0")
TAG = id3(3, frames(3, TITLE, JAZZ, SERATO))


def dsf(tag: bytes) -> bytes:
    """A DSF file (Sony's specification 1.01) of a block of silence for one channel, with a tag at its end."""
    fmt = b"fmt " + struct.pack("<Q6IQ2I", 52, 1, 0, 1, 1, 2_822_400, 1, 32768, 4096, 0)
    sound = b"data" + struct.pack("<Q", 12 + 4096) + b"\x69" * 4096
    size = 28 + len(fmt + sound)
    return b"DSD " + struct.pack("<3Q", 28, size + len(tag), size if tag else 0) + fmt + sound + tag


def dsdiff(tag: bytes) -> bytes:
    """A DSDIFF file (Philips' specification 1.5) of 4,096 bytes of silence for one channel, with a tag at its end."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(">Q", len(content)) + content + bytes(len(content) % 2)

    channels = chunk(b"CHNL", struct.pack(">H4s", 1, b"C   "))
    compression = chunk(b"CMPR", b"DSD \x0enot compressed\0")
    prop = chunk(b"PROP", b"SND " + chunk(b"FS  ", struct.pack(">I", 2_822_400)) + channels + compression)
    sound = chunk(b"FVER", bytes([1, 5, 0, 0])) + prop + chunk(b"DSD ", b"\x69" * 4096)
    return chunk(b"FRM8", b"DSD " + sound + (chunk(b"ID3 ", tag) if tag else b""))


CHUNKS = {
    "wav": Kind("wav", lambda s: s["a.wav"]),
    "wav float": Kind("wav", lambda s: s["float.wav"]),
    "wav extensible, 24 bits": Kind("wav", lambda s: s["extensible.wav"]),
    "wav LIST/INFO": Kind("wav", riff(info((b"INAM", b"Title"), (b"IGNR", b"Jazz\0"), (b"IART", b"Me")))),
    "wav LIST/INFO without a genre": Kind("wav", riff(info((b"INAM", RUSSIAN), (b"ICMT", b"odd")))),
    "wav ID3": Kind("wav", riff((b"id3 ", TAG))),
    "wav ID3 and LIST/INFO": Kind("wav", riff(info((b"IGNR", b"Folk\0")), (b"ID3 ", TAG))),
    "wav ID3 before other chunks": Kind("wav", riff((b"id3 ", TAG), CUE, LABELS)),
    "wav broadcast": Kind("wav", riff(CUE, LABELS, (b"smpl", NOISE[:36]), (b"iXML", b"<BWFXML/>"), first=BEXT)),
    "wav odd sound": Kind("wav", riff(sound="odd.wav")),
    "wav odd sound without its pad byte": Kind("wav", lambda s: _without_pad(riff(sound="odd.wav")(s))),
    "wav RF64": Kind("wav", lambda s: s["a.rf64"]),
    "wav cut short": Kind("wav", lambda s: s["a.wav"][:20_000], refused="24144 bytes more than the file has"),
    "wav of a recorder that died": Kind(
        "wav", lambda s: s["a.wav"][:40] + bytes(4) + s["a.wav"][44:], refused="never filled in"
    ),
    "wav size too small": Kind("wav", lambda s: _resize(riff(CUE)(s), -36), refused="36 bytes less"),
    "aiff": Kind("aiff", lambda s: s["a.aiff"]),
    "aiff little-endian": Kind("aiff", lambda s: s["sowt.aiff"]),
    "aiff texts": Kind("aiff", form((b"NAME", b"Title"), (b"AUTH", b"odd"), (b"ANNO", b"a note"), (b"APPL", NOISE))),
    "aiff ID3": Kind("aiff", form((b"ID3 ", TAG), (b"NAME", b"Title"))),
    "aiff odd sound": Kind("aiff", form(sound="odd.aiff")),
    "aiff cut short": Kind("aiff", lambda s: s["a.aiff"][:20_000], refused="more than the file has"),
    "dsf": Kind("dsf", lambda s: dsf(b"")),
    "dsf ID3": Kind("dsf", lambda s: dsf(TAG)),
    "dsdiff": Kind("dff", lambda s: dsdiff(b"")),
    "dsdiff ID3": Kind("dff", lambda s: dsdiff(TAG)),
    "w64": Kind("w64", lambda s: s["a.w64"], refused="unsupported format"),
}


def _without_pad(data: bytes) -> bytes:
    """Remove the last byte of a WAV, which pads its sound, from file and size."""
    return _resize(data[:-1], -1) if data[-1:] == b"\0" else data


def _resize(data: bytes, change: int) -> bytes:
    """Change the size in the header of a WAV."""
    return data[:4] + struct.pack("<I", struct.unpack("<I", data[4:8])[0] + change) + data[8:]


OTHERS = {
    "wma": Kind("wma", lambda s: s["a.wma"]),
    "wma tagged": by_mutagen(
        "wma", lambda f: f.tags.update({"WM/Genre": ["Jazz"], "Title": ["T"], "WM/MCDI": [NOISE[:30].hex()]})
    ),
    "mka": Kind("mka", lambda s: s["a.mka"]),
    "mka flac": Kind("mka", lambda s: s["flac.mka"]),
    "mkv music video": Kind("mkv", lambda s: s["video.mkv"]),
    "webm": Kind("webm", lambda s: s["a.webm"]),
}

#: Every kind by a name for people.
KINDS: dict[str, Kind] = MP3 | STREAMS | COMMENTS | OGG | MP4S | CHUNKS | OTHERS
