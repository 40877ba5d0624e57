"""Audio files below a folder: which are listed, and what is reported of those that are not."""

import errno
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from genre.audio import decoding
from genre.audio.left_out import LeftOut
from genre.audio.listing import find_audio_files, list_subfolders
from genre.audio.readers import CONTAINERS
from genre.audio.suffixes import UNDECODED_SUFFIXES, audio_suffixes, name_suffix
from genre.datasets.folder import find_tracks
from genre.errors import DataError, GenreError
from genre.library.answers import list_library
from genre.library.replacing import COPY_PREFIX
from tests.support.sounds import SR, mux, tone

#: User without privileges, as most systems number it.
NOBODY = 65534

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(100)


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A short WAV file."""
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    sf.write(path, tone(0.5, hz=300), 22050)
    return path.read_bytes()


def put(path: Path, content: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listing(folder: Path, **options: bool) -> tuple[list[str], LeftOut]:
    left_out = LeftOut()
    files = find_audio_files(folder, left_out, **options)
    return [str(path.relative_to(folder)) for path in files], left_out


def dsd_file(suffix: str) -> bytes:
    """Half a second of silence at 2.8 MHz, one bit a sample, as DSF (Sony) or DSDIFF (Philips)."""
    rate = 2_822_400
    data = b"\x69" * (rate // 16 // 4096 * 4096)
    if suffix == "dsf":
        fmt = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, rate, 1, 8 * len(data), 4096, 0)
        body = fmt + b"data" + struct.pack("<Q", 12 + len(data)) + data
        return b"DSD " + struct.pack("<QQQ", 28, 28 + len(body), 0) + body

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack(">Q", len(content)) + content + bytes(len(content) % 2)

    properties = chunk(b"FS  ", struct.pack(">I", rate)) + chunk(b"CHNL", b"\0\1C   ")
    properties += chunk(b"CMPR", b"DSD \x0enot compressed")
    body = chunk(b"FVER", b"\1\5\0\0") + chunk(b"PROP", b"SND " + properties) + chunk(b"DSD ", data)
    return chunk(b"FRM8", b"DSD " + body)


@pytest.mark.parametrize("suffix", ["w64", "caf", "aifc", "rf64", "voc", "snd", "wave", "avr", "paf", "svx", "oga"])
def test_formats_of_libsndfile_are_listed_and_decoded(tmp_path, suffix):
    names = {"aifc": "AIFF", "snd": "AU", "wave": "WAV", "oga": "OGG"}
    path = tmp_path / f"a.{suffix.upper()}"
    sf.write(path, tone(0.5, hz=300), 22050, format=names.get(suffix, suffix.upper()))
    assert listing(tmp_path)[0] == [path.name]
    assert decoding.read_duration_s(path) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("suffix", "codec", "container"),
    [
        *[("m4b", "aac", "mp4"), ("3gp", "aac", "3gp"), ("3g2", "aac", "3g2"), ("mov", "alac", "mov")],
        *[("m4r", "aac", "ipod"), ("mka", "flac", "matroska"), ("mkv", "aac", "matroska")],
        *[("mp2", "mp2", "mp2"), ("wv", "wavpack", "wv"), ("tta", "tta", "tta"), ("ac3", "ac3", "ac3")],
        *[("ec3", "eac3", "eac3"), ("ra", "ac3", "rm"), ("avi", "mp2", "avi")],
    ],
)
def test_formats_of_ffmpeg_are_listed_and_decoded(tmp_path, suffix, codec, container):
    frame = av.AudioFrame.from_ndarray(np.stack([tone(3, hz=300, sr=SR)] * 2), format="fltp", layout="stereo")
    frame.sample_rate = SR
    frame = av.AudioResampler(format=av.Codec(codec, "w").audio_formats[0].name).resample(frame)[0]
    mux(tmp_path / f"a.{suffix}", frame, codec, container, SR)
    assert listing(tmp_path)[0] == [f"a.{suffix}"]
    assert decoding.read_duration_s(tmp_path / f"a.{suffix}") == pytest.approx(3, abs=0.1)
    assert np.abs(decoding.decode_audio(tmp_path / f"a.{suffix}", sr=22050)).max() > 0.1


@pytest.mark.parametrize("suffix", ["dsf", "dff"])
def test_one_bit_audio_is_listed_and_decoded(tmp_path, suffix):
    path = put(tmp_path / f"a.{suffix}", dsd_file(suffix))
    assert listing(tmp_path)[0] == [path.name]
    assert decoding.read_duration_s(path) == pytest.approx(0.5, abs=0.02)
    assert decoding.decode_audio(path, sr=22050).size == pytest.approx(11025, rel=0.05)


def test_the_libraries_are_asked_for_suffixes():
    asked = {
        f".{suffix}" for name in ("ape", "mpc", "tak", "ogg", "mp3") for suffix in av.ContainerFormat(name).extensions
    }
    assert asked - {".apl"} <= audio_suffixes()
    assert {".ape", ".mpc", ".tak", ".dts", ".wma", ".flac", ".opus", ".mp4", ".amr", ".spx"} <= audio_suffixes()
    assert not audio_suffixes() & UNDECODED_SUFFIXES


def test_no_demuxer_opens_other_files():
    dangerous = {
        "hls",
        "dash",
        "concat",
        "image2",
        "sdp",
        "rtsp",
        "rtp",
        "sap",
        "lavfi",
        "webm_dash_manifest",
        "ffmetadata",
    }
    assert not dangerous & set(CONTAINERS.split(","))


def test_what_is_no_audio_is_neither_listed_nor_counted(tmp_path, wav):
    others = "a.jpg a.cue a.m3u a.m3u8 a.pls a.log a.nfo a.txt a.pdf a.heic a.mks a.ism a.ts a.mat a.raw a.mp3.part"
    for name in [*others.split(), "a", "wav", ".wav"]:
        put(tmp_path / name, wav)
    assert listing(tmp_path) == ([], LeftOut())


def test_audio_that_is_not_decoded_is_counted_by_type(tmp_path):
    for name in ("a.MID", "b/b.mid", "b/c.ofr", "b/d.m4p", "b/.e.mp3.icloud", "b/._d.m4p"):
        put(tmp_path / name)
    files, left_out = listing(tmp_path)
    assert files == []
    assert (
        left_out.to_clause() == "; left out: 5 files of types that are not decoded (.mid 2, .icloud 1, .m4p 1, .ofr 1)"
    )


@pytest.mark.parametrize("name", ["...Baby One More Time.wav", ".38 Special - Caught Up.wav", ".hidden.wav", "....wav"])
def test_music_whose_name_begins_with_a_dot_is_listed(tmp_path, wav, name):
    put(tmp_path / "Pop" / name, wav)
    assert listing(tmp_path) == ([f"Pop/{name}"], LeftOut())


@pytest.mark.parametrize("content", [APPLE_DOUBLE, b"\0\5\x16\0" + bytes(80), bytes(4096), b"", b"no music"])
def test_hidden_files_without_audio_are_counted(tmp_path, wav, content):
    put(tmp_path / "song.wav", wav)
    put(tmp_path / "._song.wav", content)
    files, left_out = listing(tmp_path)
    assert files == ["song.wav"]
    assert left_out.to_clause() == "; left out: 1 file with a leading dot and no audio (.wav)"


def test_the_copies_of_a_tag_write_are_never_listed(tmp_path, wav):
    put(tmp_path / f"{COPY_PREFIX}0123456789abcdef", wav)
    assert listing(tmp_path) == ([], LeftOut())


@pytest.mark.parametrize(
    "name",
    [
        *[".Trash-1000/files", ".Trash/1000/files", ".Trashes/501", "$RECYCLE.BIN/S-1-5-21", "RECYCLER", "Recycled"],
        *[
            "#recycle",
            "@Recycle",
            ".recycle/anna",
            ".Recycle.Bin",
            "lost+found/#123",
            "LOST.DIR",
            "FOUND.000",
            ".dtrash/files",
        ],
        *[".stversions", ".sync/Archive", "_gsdata_/_saved_", "System Volume Information", ".dropbox.cache/2026"],
        *[
            "files_trashbin/files",
            "files_versions",
            "@eaDir/song",
            "__MACOSX",
            ".AppleDouble",
            ".local/share/Trash/files",
        ],
    ],
)
def test_trash_and_old_versions_are_counted_and_not_listed(tmp_path, wav, name):
    put(tmp_path / "Jazz" / "album" / "song.wav", wav)
    put(tmp_path / "Jazz" / name / "song.wav", wav)
    put(tmp_path / "Jazz" / name / "deeper" / "song.mp3", wav)
    put(tmp_path / "Jazz" / name / "cover.jpg", wav)
    files, left_out = listing(tmp_path)
    assert files == ["Jazz/album/song.wav"]
    table = left_out.to_table()
    assert table["reason"].tolist() == ["files in trash, old versions and the like"]
    assert table["number"].tolist() == [2] and table["type"][0] in Path(name).parts


def test_music_called_like_a_trash_is_listed(tmp_path, wav):
    names = ["Alice Cooper - Trash/a.wav", "Trash/a.wav", "Recycle/a.wav", "trash.wav", "...And Justice/a.wav"]
    for name in names:
        put(tmp_path / name, wav)
    assert listing(tmp_path) == (sorted(names), LeftOut())


def test_a_folder_that_is_itself_in_a_trash_is_searched(tmp_path, wav):
    put(tmp_path / ".Trash" / "a.wav", wav)
    assert listing(tmp_path / ".Trash") == (["a.wav"], LeftOut())


def test_files_in_the_trash_of_android_are_counted(tmp_path, wav):
    put(tmp_path / ".trashed-1790000000-song.wav", wav)
    files, left_out = listing(tmp_path)
    assert files == []
    assert left_out.to_clause() == "; left out: 1 file in trash, old versions and the like (.trashed-)"


@pytest.mark.parametrize("name", [".git", ".zfs", ".snapshots", "#snapshot", "@Recently-Snapshot", "Backups.backupdb"])
def test_snapshots_are_not_even_searched(tmp_path, wav, name):
    put(tmp_path / name / "annex" / "a.wav", wav)
    put(tmp_path / "a.wav", wav)
    files, left_out = listing(tmp_path)
    assert files == ["a.wav"]
    assert left_out.to_clause() == f"; left out: 1 folder of snapshots or versions, not searched ({name})"


def test_paths_are_in_order_at_any_depth(tmp_path):
    deep = Path(*["d"] * 100)
    for name in ("b.mp3", "a-b/x.mp3", "a/x.mp3", "a/B/y.MP3", "a b/x.mp3", "é.mp3", "Z/x.mp3"):
        put(tmp_path / name)
    folder = tmp_path
    for part in deep.parts:
        folder /= part
        folder.mkdir()
    put(folder / "x.mp3")
    files = find_audio_files(tmp_path)
    assert files == sorted(files) and len(files) == 8


def test_links_to_files_are_followed_and_links_to_folders_are_counted(tmp_path, wav):
    music = tmp_path / "music"
    put(music / "a" / "song.wav", wav)
    put(tmp_path / "elsewhere" / "other.wav", wav)
    put(tmp_path / "elsewhere" / "tune.mid")
    links = {
        "linked.wav": tmp_path / "elsewhere" / "other.wav",
        ".linked.wav": tmp_path / "elsewhere" / "other.wav",
        "linked.mid": tmp_path / "elsewhere" / "tune.mid",
        "loop": music,
        "a/up": music,
        "folder.wav": tmp_path / "elsewhere",
        "gone.wav": tmp_path / "gone.wav",
        "unmounted": tmp_path / "unmounted",
        "itself.wav": music / "itself.wav",
        "below a file.wav": music / "a" / "song.wav" / "x.wav",
        ".#lock": "anna@host.123",
    }
    for name, target in links.items():
        (music / name).symlink_to(target)
    files, left_out = listing(music)
    assert files == [".linked.wav", "a/song.wav", "linked.wav"]
    assert left_out.to_clause() == (
        "; left out: 1 file of types that are not decoded (.mid), 3 links to folders, not followed, 4 links to nothing"
    )


def test_links_in_the_folder_itself_are_followed_on_request_where_they_lead_out_of_it(tmp_path, wav):
    music = tmp_path / "music"
    put(music / "a" / "song.wav", wav)
    put(tmp_path / "elsewhere" / "deeper" / "other.wav", wav)
    (music / "b").symlink_to(tmp_path / "elsewhere")
    (music / "a" / "c").symlink_to(tmp_path / "elsewhere")
    for name, target in (("inside", music / "a"), ("itself", music), ("around", tmp_path)):
        (music / name).symlink_to(target)
    files, left_out = listing(music, follow_links=True)
    assert files == ["a/song.wav", "b/deeper/other.wav"]
    assert left_out.to_clause() == "; left out: 4 links to folders, not followed"
    assert list_subfolders(music) == ["a", "around", "b", "inside", "itself"]


def test_a_pipe_called_like_a_file_is_not_listed(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    os.mkfifo(tmp_path / ".b.wav")
    assert listing(tmp_path)[0] == []


@contextmanager
def no_privileges() -> Iterator[Path]:
    """Take root's privileges away for a while; yield a folder that every user may search."""
    user = os.geteuid()
    audio_suffixes()  # may import a library that only root may read
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)
            for path in Path(folder).iterdir():
                path.chmod(0o755)


def test_folders_without_permission_are_counted(wav):
    with no_privileges() as folder:
        for name in ("open/a.wav", "closed/b.wav", "closed too/c.wav", "unreadable.wav"):
            put(folder / name, wav)
        (folder / "closed" / "album").mkdir()
        (folder / "into.wav").symlink_to(folder / "closed" / "b.wav")
        (folder / "into").symlink_to(folder / "closed" / "album")
        for name in ("closed", "closed too", "unreadable.wav"):
            (folder / name).chmod(0)
        os.seteuid(os.geteuid() or NOBODY)
        files, left_out = listing(folder, follow_links=True)
        assert list_subfolders(folder) == ["closed", "closed too", "open"]
    # a file is listed: whoever decodes it reports that it cannot be read
    assert files == ["open/a.wav", "unreadable.wav"]
    assert left_out.to_clause() == "; left out: 2 folders without permission, 2 links to nothing"


def test_a_source_without_permission_is_told(wav):
    with no_privileges() as folder:
        put(folder / "music" / "a" / "a.wav", wav)
        (folder / "music").chmod(0)
        os.seteuid(os.geteuid() or NOBODY)
        for find in (lambda source: list_library(source), lambda source: find_tracks(source, LeftOut())):
            with pytest.raises(DataError, match=r"no audio in .*; left out: 1 folder without permission"):
                find(folder / "music")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE])
def test_a_disk_that_is_away_is_no_empty_folder(tmp_path, monkeypatch, wav, number):
    put(tmp_path / "a" / "a.wav", wav)
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("/a"):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(GenreError, match=rf"cannot list .*/a \({os.strerror(number)}\); check the disk") as caught:
        find_audio_files(tmp_path)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_path_that_is_too_long_is_counted(tmp_path, monkeypatch, wav):
    put(tmp_path / "a.wav", wav)
    monkeypatch.chdir(tmp_path)
    for _ in range(17):
        Path("d" * 250).mkdir()
        os.chdir("d" * 250)
    files, left_out = listing(tmp_path)
    assert files == ["a.wav"]
    assert left_out.to_clause() == "; left out: 1 folder with too long a path"


def test_a_folder_that_is_missing_has_no_files(tmp_path):
    assert listing(tmp_path / "nowhere") == ([], LeftOut())


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.MP3", ".mp3"), ("a.b.wav", ".wav"), (".wav", ""), ("..wav", ".wav"), ("a.", ""), ("a", ""), ("a. b", ". b")],
)
def test_the_suffix_of_a_name(name, suffix):
    assert name_suffix(name) == suffix


def test_a_tally_is_told_in_lines_a_clause_and_a_table():
    left_out = LeftOut()
    assert (left_out.to_lines(), left_out.to_clause(), len(left_out.to_table())) == ([], "", 0)
    for n in range(12):
        for _ in range(n + 1):
            left_out.add("files of types that are not decoded", f"/m/{n}\n\udce9.x", f".t{n:02d}")
    left_out.add("folders without permission", Path("/m/a"))
    named = ", ".join(f".t{n:02d} {n + 1}" for n in range(11, 1, -1))
    told = [f"78 files of types that are not decoded ({named}, 2 more)", "1 folder without permission"]
    assert left_out.to_clause() == f"; left out: {', '.join(told)}"
    examples = [r"/m/0\n\xe9.x", "/m/a"]
    assert left_out.to_lines() == [f"left out: {t}, such as {e}" for t, e in zip(told, examples, strict=True)]
    table = left_out.to_table()
    assert list(table) == ["reason", "type", "number"] and table["number"].tolist() == [*range(12, 0, -1), 1]
    assert "/m/" not in table.to_csv()
    left_out.add("folders without audio", "/m/b", "caf\udce9")
    assert r"caf\xe9" in left_out.to_table().to_csv().encode().decode()
    assert pd.api.types.is_integer_dtype(table["number"])
