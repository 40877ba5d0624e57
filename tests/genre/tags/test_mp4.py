"""Genres in MP4 files of every arrangement of atoms, whole and in fragments, against mutagen and FFmpeg."""

import struct
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import av
import mutagen.mp4
import pytest

from genre.errors import DataError
from genre.tags import mp4
from tests.support.atoms import atom, edit_atom, leaves, split_atoms, wide_atom
from tests.support.edits import apply_splices, packets_of
from tests.support.sounds import tone

FRAGMENTS = "frag_keyframe+empty_moov"
KINDS = {
    "moov last": ("mp4", {}),
    "moov first": ("mp4", {"movflags": "faststart"}),
    "moov first, free behind": ("mp4", {"moov_size": "9000"}),
    "iPod": ("ipod", {"movflags": "faststart"}),
    "QuickTime": ("mov", {}),
    "QuickTime, moov first": ("mov", {"movflags": "faststart"}),
    "3GPP": ("3gp", {}),
    "3GPP, moov first": ("3gp", {"movflags": "faststart"}),
    "keys": ("mp4", {"movflags": "use_metadata_tags+faststart"}),
    "fragments, absolute": ("mp4", {"movflags": FRAGMENTS}),
    "fragments, relative": ("mp4", {"movflags": FRAGMENTS + "+default_base_moof"}),
    "fragments, index in front": ("mp4", {"movflags": FRAGMENTS + "+default_base_moof+global_sidx"}),
    "fragments, index of each": ("mp4", {"movflags": "dash+cmaf"}),
    "fragments, late moov": ("mp4", {"movflags": "frag_keyframe+delay_moov+skip_trailer"}),
    "fragments, first in moov": ("mp4", {"movflags": "frag_keyframe"}),
    "fragments, closed at the end": ("mp4", {"movflags": "hybrid_fragmented"}),
    "fragments, Smooth Streaming": ("ismv", {}),
}
GENRES = [["Rock"], ["Drum & Bass — 日本", "Jazz"], ["Fado" * 3000]]
SAMPLES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
LIST = (b"moov", b"udta", b"meta", b"ilst")

#: Atoms that a write may change: the genre, what makes up for its size, and offsets, which are checked by themselves.
CHANGING = {b"\xa9gen", b"gnre", b"free", b"stco", b"co64", b"tfhd", b"tfra"}


def make_mp4(
    folder: Path, container: str, options: dict[str, str], genre: str = "", n_streams: int = 1, **tags: str
) -> bytes:
    y = tone(1, hz=300, sr=44100)
    if "frag" in options.get("movflags", "") or options.get("movflags") == "dash+cmaf" or container == "ismv":
        options = {**options, "frag_duration": "150000"}
    with av.open(str(folder / "sound"), "w", format=container, options=options) as out:
        out.metadata.update({"title": "Título"} | ({"genre": genre} if genre else {}) | tags)
        streams = [out.add_stream("aac", rate=44100, layout="mono") for _ in range(n_streams)]
        for start in range(0, len(y), 1024):
            for stream in streams:
                frame = av.AudioFrame.from_ndarray(y[None, start : start + 1024], "fltp", "mono")
                frame.sample_rate, frame.pts = 44100, start
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return (folder / "sound").read_bytes()


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("mp4")
    files = {name: make_mp4(folder, *arguments) for name, arguments in KINDS.items()}
    return files | {f"{name}, Jazz": make_mp4(folder, *arguments, "Jazz") for name, arguments in KINDS.items()}


@pytest.fixture(scope="module")
def itunes(originals, tmp_path_factory) -> dict[str, bytes]:
    """Files as music players tag them, with a cover, ReplayGain, several genres, and padding."""
    files = {}
    for name in ("moov first", "moov last"):
        path = tmp_path_factory.mktemp("itunes") / "sound"
        path.write_bytes(originals[name])
        file = mutagen.mp4.MP4(path)
        file["\xa9gen"] = ["Jazz", "Pop"]
        file["covr"] = [mutagen.mp4.MP4Cover(bytes(range(256)) * 300)]
        file["----:com.apple.iTunes:replaygain_track_gain"] = [b"-7.1 dB"]
        file["----:com.apple.iTunes:Genre"] = [mutagen.mp4.MP4FreeForm(b"Freeform")]
        file["trkn"] = [(1, 9)]
        file.save(padding=lambda info: 400)
        files[name] = path.read_bytes()
    return files


def others(data: bytes) -> list:
    """All atoms but those that may change, and sizes."""
    return [
        (path, content)
        for path, content in leaves(data)
        if not CHANGING & set(path) and not (path[-1] == b"----" and b"genre" in content.lower())
    ]


def edit(data: bytes, genres: list[str]) -> bytes:
    edited = apply_splices(data, mp4.plan_genres(BytesIO(data), genres))
    assert packets_of(edited) == packets_of(data)
    assert mp4.read_genres(BytesIO(edited)) == genres
    with av.open(BytesIO(edited)) as container:
        assert container.metadata["genre"] == genres[0]
    if is_read_by_mutagen(data):
        assert mutagen.mp4.MP4(BytesIO(edited))["\xa9gen"] == genres
    check_fragments(edited)
    return edited


def is_read_by_mutagen(data: bytes) -> bool:
    """Whether mutagen can read a file: not if its user data end with zeros, as QuickTime's do."""
    try:
        mutagen.mp4.MP4(BytesIO(data))
    except mutagen.mp4.error:
        return False
    return True


def check_fragments(data: bytes) -> None:
    """Check that the table of fragments at the end of a file points to fragments."""
    for path, content in leaves(data):
        if path == (b"mfra", b"tfra"):
            width = 8 if content[0] else 4
            for n in range(int.from_bytes(content[12:16], "big")):
                place = 16 + n * (2 * width + 3) + width
                offset = int.from_bytes(content[place : place + width], "big")
                assert data[offset + 4 : offset + 8] == b"moof"


@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"keys"}))
def test_a_genre_is_added_to_a_file_as_its_muxer_wrote_it(originals, name, genres):
    data = originals[name]
    assert mp4.read_genres(BytesIO(data)) == []
    edited = edit(data, genres)
    handler = (*LIST[:3], b"hdlr")
    has_list = any(path[:4] == LIST for path, _ in leaves(data))
    assert [leaf for leaf in others(edited) if has_list or leaf[0] != handler] == others(data)


@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"keys"}))
def test_a_genre_of_the_muxer_is_read_and_replaced(originals, name, genres):
    data = originals[f"{name}, Jazz"]
    if name != "fragments, late moov":
        assert mp4.read_genres(BytesIO(data)) == ["Jazz"]
    edited = edit(data, genres)
    # QuickTime's and 3GPP's user data become iTunes' list, with its handler.
    created = {(*LIST[:3], b"hdlr")} - {path for path, _ in leaves(data)}
    is_other = {path: path not in created and b"Jazz" not in content for path, content in others(data) + others(edited)}
    assert [leaf for leaf in others(edited) if is_other[leaf[0]]] == [
        leaf for leaf in others(data) if is_other[leaf[0]]
    ]


@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize("genre", ["", "Jazz"])
@pytest.mark.parametrize("prefix", ["", "com.apple.quicktime."])
def test_a_list_with_a_table_of_keys_gets_its_genre_by_a_key(tmp_path, prefix, genre, genres):
    tags = {f"{prefix}mood": "Low"} | ({f"{prefix}genre": genre} if genre else {})
    data = make_mp4(tmp_path, *KINDS["keys"], **tags)
    edited = apply_splices(data, mp4.plan_genres(BytesIO(data), genres))
    assert packets_of(edited) == packets_of(data)
    assert mp4.read_genres(BytesIO(edited)) == genres
    assert read_keys(edited) == read_keys(data) | {f"{prefix}genre": genres[0]}
    assert b"\xa9gen" not in edited


def read_keys(data: bytes) -> dict[str, str]:
    with av.open(BytesIO(data)) as container:
        return dict(container.metadata)


@pytest.mark.parametrize("genres", GENRES)
@pytest.mark.parametrize("name", ["moov first", "moov last"])
def test_all_genres_of_music_players_are_replaced_by_one_item(itunes, name, genres):
    data = itunes[name]
    assert mp4.read_genres(BytesIO(data)) == ["Jazz", "Pop", "Freeform"]
    edited = edit(data, genres)
    assert others(edited) == others(data)
    assert [path for path, _ in leaves(edited) if path[-1] == b"\xa9gen"] == [(*LIST, b"\xa9gen")]
    assert len(edited) == len(data) or len(genres[0]) > 400


def put_in_list(data: bytes, *items: bytes) -> bytes:
    """Add items in front of iTunes' list, in a file whose moov is last."""
    return edit_atom(data, LIST, lambda content: b"".join(items) + content)


def value(kind: int, content: bytes) -> bytes:
    return atom(b"data", kind.to_bytes(4, "big"), bytes(4), content)


def freeform(mean: bytes, name: bytes, *values: bytes) -> bytes:
    return atom(b"----", atom(b"mean", bytes(4), mean), atom(b"name", bytes(4), name), *values)


@pytest.mark.parametrize(
    ("item", "genres"),
    [
        (atom(b"gnre", value(0, b"\0\x12")), ["Rock"]),
        (atom(b"gnre", value(0, b"\0\0")), []),
        (atom(b"gnre", value(0, b"\0\xff")), []),
        (atom(b"gnre", value(0, b"")), []),
        (atom(b"\xa9gen", value(1, b"Fado"), value(1, b"Jazz")), ["Fado", "Jazz"]),
        (atom(b"\xa9gen", value(2, "日本".encode("utf-16-be"))), ["日本"]),
        (atom(b"\xa9gen", value(0, b"caf\xe9")), ["café"]),
        (freeform(b"com.apple.iTunes", b"GENRE", value(1, b"Fado")), ["Fado"]),
        (freeform(b"org.example", b"genre", value(1, b"Fado"), value(1, b"Jazz")), ["Fado", "Jazz"]),
    ],
)
def test_a_genre_in_every_kind_of_item_is_seen_and_replaced_where_it_stands(originals, item, genres):
    data = put_in_list(originals["moov last"], freeform(b"com.apple.iTunes", b"SUBGENRE", value(1, b"x")), item)
    assert mp4.read_genres(BytesIO(data)) == genres
    edited = edit(data, ["Metal"])
    assert others(edited) == [leaf for leaf in others(data) if leaf != ((*LIST, item[4:8]), item[8:])]
    assert [path[-1] for path, _ in leaves(edited) if path[:4] == LIST][:2] == [b"----", b"\xa9gen"]


USER_DATA = [
    (atom(b"gnre", bytes(4), b"\x15\xc7Fado\0"), "Fado"),
    (atom(b"gnre", bytes(4), b"\x15\xc7\xfe\xff", "日本\0".encode("utf-16-be")), "日本"),
    (atom(b"\xa9gen", b"\0\4\0\0Fado"), "Fado"),
    (atom(b"\xa9gen", b"\0\4\0\0caf\x8e"), "café"),
]


@pytest.mark.parametrize(("user_data", "genre"), USER_DATA)
@pytest.mark.parametrize("name", ["QuickTime", "3GPP", "moov last"])
def test_user_data_of_quicktime_and_3gpp_are_seen_and_leave_no_other_genre_behind(originals, name, user_data, genre):
    chapters = atom(b"chpl", bytes(40))
    data = originals[name]
    data = edit_atom(data, (b"moov",), lambda content: content + atom(b"udta", chapters, user_data, bytes(4)))
    assert mp4.read_genres(BytesIO(data)) == [genre]
    edited = edit(data, ["Metal", "Rock"])
    assert [leaf for leaf in leaves(edited) if leaf[0][-1] == b"chpl"] == [((b"moov", b"udta", b"chpl"), bytes(40))]
    assert user_data[8:] not in edited


def test_two_tracks_with_64_bit_offsets_and_sizes_move_together(tmp_path):
    data = make_mp4(tmp_path, "mp4", {"movflags": "faststart"}, "Jazz", n_streams=2)
    assert [path[-1] for path, _ in leaves(data)].count(b"stco") == 2
    atoms = dict(split_atoms(data))
    head = b"".join(atom(kind, atoms[kind]) for kind in (b"ftyp", b"moov", b"free"))
    moved = shift_offsets(head, 8) + wide_atom(b"mdat", atoms[b"mdat"])
    assert packets_of(moved) == packets_of(data)
    assert len(edit(moved, ["Fado" * 30])) > len(moved)


def test_offsets_of_64_bits_are_corrected(originals):
    data = originals["moov first"]
    (table,) = (content for path, content in leaves(data) if path[-1] == b"stco")
    n = len(table) // 4 - 2
    offsets = struct.unpack(f">{n}I", table[8:])
    wide_table = table[:8] + struct.pack(f">{n}Q", *(offset + 4 * n for offset in offsets))
    wide = edit_atom(data, (*SAMPLES, b"stco"), lambda _: wide_table).replace(b"stco", b"co64")
    assert packets_of(wide) == packets_of(data)
    assert len(edit(wide, ["Fado" * 30])) > len(wide)


def shift_offsets(data: bytes, count: int) -> bytes:
    """Add to all offsets of samples."""

    def shift(content: bytes) -> bytes:
        offsets = struct.unpack(f">{len(content) // 4 - 2}I", content[8:])
        return content[:8] + struct.pack(f">{len(offsets)}I", *(offset + count for offset in offsets))

    for path, content in leaves(data):
        if path[-1] == b"stco":
            data = data.replace(content, shift(content))
    return data


def test_media_to_the_end_of_the_file_and_moov_to_the_end_of_the_file(originals):
    for name in ("moov first", "moov last"):
        data = originals[name]
        *_, (kind, content) = split_atoms(data)
        start = len(data) - 8 - len(content)
        data = data[:start] + bytes(4) + data[start + 4 :]
        edited = edit(data, ["Rock"])
        assert bytes(4) + kind in edited


def test_a_free_atom_behind_the_media_does_not_keep_them_in_place(originals):
    data = originals["moov first"] + atom(b"free", bytes(20_000))
    assert len(edit(data, ["Fado" * 3000])) > len(data) + 12_000


def test_a_free_atom_that_fits_exactly_goes(originals):
    item = atom(b"\xa9gen", value(1, b"Rock"))
    data = edit_atom(
        originals["moov last"], (b"moov", b"udta"), lambda content: content + atom(b"free", bytes(len(item) - 8))
    )
    edited = edit(data, ["Rock"])
    assert len(edited) == len(data)
    assert not any(path == (b"moov", b"udta", b"free") for path, _ in leaves(edited))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "moov first",
            lambda d: edit_atom(d, SAMPLES, lambda c: c + atom(b"saio", bytes(8))),
            "its atoms saio may hold",
        ),
        ("moov first", lambda d: d + atom(b"zzzz"), "its atoms zzzz may hold"),
        ("moov first", lambda d: d + atom(b"meta", bytes(4), atom(b"iloc", bytes(8))), "its atoms iloc may hold"),
        ("moov first", lambda d: d.replace(b"url \0\0\0\1", b"url \0\0\0\0"), "lies in another file"),
        ("moov first", lambda d: shift_offsets(d, (1 << 32) - 10_000), "beyond what its atom stco can say"),
        ("moov first", lambda d: d.replace(b"stco\0\0\0\0\0", b"stco\0\0\0\0\1"), "stco at byte .* breaks off"),
        ("moov first", lambda d: atom(b"sidx", bytes(40)) + d, "its index sidx stands before"),
        ("moov first", lambda d: d[:-9], r"the atom mdat at byte \d+ has \d+ bytes, and \d+ are left"),
        ("moov first", lambda d: d + b"TAG".ljust(128, b"\0"), "the atom 00000000 at byte"),
        ("moov last", lambda d: d[: d.index(b"moov") - 4], "it has no atom moov"),
        ("moov last", lambda d: d[:-9], "the atom moov at byte"),
    ],
)
def test_what_cannot_be_corrected_is_refused(originals, name, change, message):
    data = change(originals[name])
    with pytest.raises(DataError, match=message):
        mp4.plan_genres(BytesIO(data), ["Fado" * 3000])


def test_an_unknown_atom_does_not_matter_where_nothing_moves(originals):
    data = originals["moov last"].replace(atom(b"free"), atom(b"zzzz"), 1)
    assert b"zzzz" in edit(data, ["Fado" * 3000])


def test_the_genre_of_a_file_whose_media_are_cut_short_is_read(originals):
    assert mp4.read_genres(BytesIO(originals["moov first, Jazz"][:-500])) == ["Jazz"]


@pytest.mark.parametrize("name", ["moov first", "fragments, absolute", "QuickTime", "keys, Jazz", "3GPP, Jazz"])
def test_a_broken_file_is_edited_or_refused(originals, name):
    data = originals[name]
    for n in range(0, min(len(data), 1500), 7):
        broken = data[:n] + bytes([data[n] ^ 0x55]) + data[n + 1 :]
        for call in (mp4.read_genres, lambda file: mp4.plan_genres(file, ["Rock"])):
            for content in (broken, data[:n]):
                with suppress(DataError):
                    call(BytesIO(content))
