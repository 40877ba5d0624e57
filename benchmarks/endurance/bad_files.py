"""A build of 500 bad files of every kind among 500 good ones.

Claim: every good file is built, and each of the bad ones gets a status and a reason. Prints the number of files per
kind and status, and the time beside that of the good files alone.

    python -m benchmarks.endurance.bad_files
    python -m benchmarks.endurance.bad_files --n 30    # a few of each kind, in seconds
"""

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile as sf
import typer

from benchmarks._shared.music import SR, encode_audio, make_chord, make_clips_table
from genre.config import AudioConfig
from genre.store import building, contents, outcomes


def make_wav(data: bytes, *, channels: int = 1, sr: int = SR, bits: int = 16, size: int | None = None) -> bytes:
    """Return a WAV file with any header, however wrong."""
    frame = max(1, channels * bits // 8)
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, sr, (sr * frame) % 2**32, frame % 2**16, bits)
    body = head + struct.pack("<4sI", b"data", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", min(2**32 - 1, 4 + len(body))) + b"WAVE" + body


def make_flac_with_hole(start: int) -> bytes:
    """Return a FLAC file with 20 kB of random bytes in it."""
    data = bytearray(encode_audio(make_chord(), file_format="FLAC"))
    data[start : start + 20_000] = np.random.default_rng(start).bytes(20_000)
    return bytes(data)


def make_flac_of_a_day() -> bytes:
    """Return half a second of FLAC whose header promises a day."""
    data = bytearray(encode_audio(make_chord(0.5), file_format="FLAC"))
    data[22:26] = b"\xff\xff\xff\xff"  # the number of samples
    return bytes(data)


def make_wav_with(value: float) -> bytes:
    """Return a WAV file of floats with a given value in it, such as NaN."""
    y = make_chord()
    y[SR] = value
    return encode_audio(y, subtype="FLOAT")


#: Kinds of file by name: their contents, and the statuses accepted for them.
CONTENTS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "empty.wav": (lambda: b"", {"undecodable"}),
    "empty.mp3": (lambda: b"", {"undecodable"}),
    "cut-in-header.wav": (lambda: encode_audio(make_chord())[:30], {"undecodable", "too_short"}),
    "cut-after-header.wav": (lambda: encode_audio(make_chord())[:44], {"undecodable", "too_short"}),
    "cut.flac": (lambda: encode_audio(make_chord(), file_format="FLAC")[:500], {"undecodable", "too_short"}),
    "cut.mp3": (lambda: encode_audio(make_chord(), file_format="MP3")[:600], {"undecodable", "too_short"}),
    "cut.ogg": (lambda: encode_audio(make_chord(), file_format="OGG")[:3000], {"undecodable", "too_short"}),
    "text.mp3": (lambda: b"Never gonna give you up.\n" * 500, {"undecodable"}),
    "picture.wav": (lambda: b"\xff\xd8\xff\xe0" + np.random.default_rng(0).bytes(20_000), {"undecodable"}),
    "noise.m4a": (lambda: np.random.default_rng(1).bytes(20_000), {"undecodable"}),
    "zeros.flac": (lambda: bytes(20_000), {"undecodable"}),
    "playlist.mp3": (lambda: b"#EXTM3U\n#EXTINF:4,\n/etc/passwd\n#EXT-X-ENDLIST\n", {"undecodable"}),
    "hours.wav": (lambda: make_wav(bytes(SR), size=2**32 - 1), {"too_short"}),
    "hours.flac": (make_flac_of_a_day, {"too_short"}),
    "hole.flac": (lambda: make_flac_with_hole(9000), {"undecodable", "too_short", "ok"}),
    "nan.wav": (lambda: make_wav_with(np.nan), {"not_finite"}),
    "infinite.wav": (lambda: make_wav_with(np.inf), {"not_finite"}),
    "silent.wav": (lambda: encode_audio(np.zeros((2 * SR, 1))), {"silent"}),
    "short.wav": (lambda: encode_audio(make_chord(0.1)), {"too_short"}),
    "1-bit.wav": (lambda: make_wav(bytes(range(256)) * 400, bits=1), {"undecodable", "ok"}),
    "no-channels.wav": (lambda: make_wav(bytes(SR), channels=0), {"undecodable"}),
    "no-rate.wav": (lambda: make_wav(bytes(SR), sr=0), {"undecodable"}),
    "absurd-rate.wav": (lambda: make_wav(bytes(SR), sr=2**31 - 1), {"undecodable", "too_short"}),
    "60000-channels.wav": (lambda: make_wav(bytes(SR), channels=60_000), {"undecodable", "too_short"}),
    "8-bit.wav": (lambda: encode_audio(make_chord(), subtype="PCM_U8"), {"ok"}),
    "192-kHz.wav": (lambda: encode_audio(make_chord(sr=192_000), 192_000), {"ok"}),
    "24-channels.wav": (lambda: encode_audio(make_chord(channels=24)), {"ok"}),
    "wav-called.mp3": (lambda: encode_audio(make_chord()), {"ok"}),
}

#: Kinds of directory entry that are no regular file, by name.
NOT_FILES: dict[str, Callable[[Path], object]] = {
    "folder.wav": Path.mkdir,
    "pipe.wav": os.mkfifo,
    "dangling.wav": lambda path: path.symlink_to("nowhere"),
}

#: Statuses of those that are not ``undecodable``: of a file that is missing nothing is stored.
NOT_FILES_STATUS = {"dangling.wav": "unread"}


def write_files(folder: Path, n: int) -> dict[str, set[str]]:
    """Write n bad or odd files, the kinds in turn; return the accepted statuses by file name."""
    kinds = [*CONTENTS, *NOT_FILES]
    contents_of: dict[str, bytes] = {}
    accepted: dict[str, set[str]] = {}
    for i in range(n):
        kind = kinds[i % len(kinds)]
        path = folder / f"bad-{i}-{kind}"
        if kind in CONTENTS:
            if kind not in contents_of:
                contents_of[kind] = CONTENTS[kind][0]()
            path.write_bytes(contents_of[kind])
        else:
            NOT_FILES[kind](path)
        accepted[path.name] = CONTENTS[kind][1] if kind in CONTENTS else {NOT_FILES_STATUS.get(kind, "undecodable")}
    return accepted


def build(paths: list[Path], directory: Path, n_jobs: int) -> tuple[float, pd.DataFrame]:
    """Build a store of some files in random order; return the seconds it took and the clips with their outcomes."""
    start = time.perf_counter()
    clips = make_clips_table(paths).sample(frac=1, random_state=0)
    result = building.build_store(clips, AudioConfig(), directory, n_jobs=n_jobs)
    seconds = time.perf_counter() - start
    return seconds, outcomes.mark_unread(contents.with_outcomes(clips, directory), result.unread)


def find_wrong_statuses(built: pd.DataFrame, good: list[Path], accepted: dict[str, set[str]]) -> dict[str, str]:
    """Return the status of every file that has another one than it should."""
    expected = accepted | {path.name: {"ok"} for path in good}
    return {name: built["status"][name] for name, statuses in expected.items() if built["status"][name] not in statuses}


def main(n: int = 500, n_jobs: int = -1) -> None:
    """Build good files, then good and bad ones, check every outcome, and print the figures."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        accepted = write_files(folder, n)
        good = [folder / f"good-{i}.wav" for i in range(n)]
        for path in good:
            sf.write(path, make_chord(), SR)
        good_s, _ = build(good, folder / "good", n_jobs)
        both_s, built = build(good + [folder / bad for bad in accepted], folder / "both", n_jobs)
    built = built.set_index("clip_id")
    kinds = built.loc[list(accepted)].assign(kind=lambda t: t.index.str.split("-", n=2).str[2])
    print(pd.crosstab(kinds["kind"], kinds["status"]).to_string())
    print(f"\n{n} good files: {good_s:.1f} s; with {n} bad ones among them: {both_s:.1f} s")
    wrong = find_wrong_statuses(built, good, accepted)
    without_reason = (kinds["status"] != "ok") & (kinds["reason"].str.len() < 10)
    assert not wrong, f"wrong status: {wrong}"
    assert not without_reason.any(), f"without a reason: {list(kinds.index[without_reason])}"


if __name__ == "__main__":
    typer.run(main)
