"""500 bad files of every kind among 500 good ones: the good ones are all built, each bad one has its reason.

Prints how many of each kind came out how, and the time beside that of the good files alone.

    python benchmarks/bad_files.py
    python benchmarks/bad_files.py --n 30    # a few of each, in seconds
"""

import io
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import soundfile as sf

# Run as `python benchmarks/X.py`, Python looks beside the script only.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SR = 44_100


def music(seconds: float = 2.0, sr: int = SR, channels: int = 1) -> np.ndarray:
    """A chord over noise, shape (n, channels)."""
    t = np.arange(round(seconds * sr)) / sr
    y = sum(0.2 * np.sin(2 * np.pi * hz * t) for hz in (220.0, 277.2, 329.6))
    y += 0.05 * np.random.default_rng(0).normal(size=t.size)
    return np.repeat(y[:, np.newaxis], channels, axis=1)


def encoded(y: np.ndarray, sr: int = SR, file_format: str = "WAV", subtype: str | None = None) -> bytes:
    """The contents of an audio file."""
    buffer = io.BytesIO()
    sf.write(buffer, y, sr, format=file_format, subtype=subtype)
    return buffer.getvalue()


def wav(data: bytes, *, channels: int = 1, sr: int = SR, bits: int = 16, size: int | None = None) -> bytes:
    """A WAV file by hand, whose header may say what it likes."""
    frame = max(1, channels * bits // 8)
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, sr, (sr * frame) % 2**32, frame % 2**16, bits)
    body = head + struct.pack("<4sI", b"data", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", min(2**32 - 1, 4 + len(body))) + b"WAVE" + body


def spoilt(at: int) -> bytes:
    """A FLAC file with a hole of random bytes."""
    data = bytearray(encoded(music(), file_format="FLAC"))
    data[at : at + 20_000] = np.random.default_rng(at).bytes(20_000)
    return bytes(data)


def hours() -> bytes:
    """Half a second of FLAC whose header promises a day."""
    data = bytearray(encoded(music(0.5), file_format="FLAC"))
    data[22:26] = b"\xff\xff\xff\xff"
    return bytes(data)


def broken(value: float) -> bytes:
    """A WAV file of floats, one of which is no number."""
    y = music()
    y[SR] = value
    return encoded(y, subtype="FLOAT")


#: Name of each kind, its contents, and the statuses that are right for it.
CONTENTS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "empty.wav": (lambda: b"", {"undecodable"}),
    "empty.mp3": (lambda: b"", {"undecodable"}),
    "cut-in-header.wav": (lambda: encoded(music())[:30], {"undecodable", "too_short"}),
    "cut-after-header.wav": (lambda: encoded(music())[:44], {"undecodable", "too_short"}),
    "cut.flac": (lambda: encoded(music(), file_format="FLAC")[:500], {"undecodable", "too_short"}),
    "cut.mp3": (lambda: encoded(music(), file_format="MP3")[:600], {"undecodable", "too_short"}),
    "cut.ogg": (lambda: encoded(music(), file_format="OGG")[:3000], {"undecodable", "too_short"}),
    "text.mp3": (lambda: b"Never gonna give you up.\n" * 500, {"undecodable"}),
    "picture.wav": (lambda: b"\xff\xd8\xff\xe0" + np.random.default_rng(0).bytes(20_000), {"undecodable"}),
    "noise.m4a": (lambda: np.random.default_rng(1).bytes(20_000), {"undecodable"}),
    "zeros.flac": (lambda: bytes(20_000), {"undecodable"}),
    "playlist.mp3": (lambda: b"#EXTM3U\n#EXTINF:4,\n/etc/passwd\n#EXT-X-ENDLIST\n", {"undecodable"}),
    "hours.wav": (lambda: wav(bytes(SR), size=2**32 - 1), {"too_short"}),
    "hours.flac": (hours, {"too_short"}),
    "hole.flac": (lambda: spoilt(9000), {"undecodable", "too_short", "ok"}),
    "nan.wav": (lambda: broken(np.nan), {"not_finite"}),
    "infinite.wav": (lambda: broken(np.inf), {"not_finite"}),
    "silent.wav": (lambda: encoded(np.zeros((2 * SR, 1))), {"silent"}),
    "short.wav": (lambda: encoded(music(0.1)), {"too_short"}),
    "1-bit.wav": (lambda: wav(bytes(range(256)) * 400, bits=1), {"undecodable", "ok"}),
    "no-channels.wav": (lambda: wav(bytes(SR), channels=0), {"undecodable"}),
    "no-rate.wav": (lambda: wav(bytes(SR), sr=0), {"undecodable"}),
    "absurd-rate.wav": (lambda: wav(bytes(SR), sr=2**31 - 1), {"undecodable", "too_short"}),
    "60000-channels.wav": (lambda: wav(bytes(SR), channels=60_000), {"undecodable", "too_short"}),
    "8-bit.wav": (lambda: encoded(music(), subtype="PCM_U8"), {"ok"}),
    "192-kHz.wav": (lambda: encoded(music(sr=192_000), 192_000), {"ok"}),
    "24-channels.wav": (lambda: encoded(music(channels=24)), {"ok"}),
    "wav-called.mp3": (lambda: encoded(music()), {"ok"}),
}

#: What is no file at all.
NOT_FILES: dict[str, Callable[[Path], object]] = {
    "folder.wav": Path.mkdir,
    "pipe.wav": os.mkfifo,
    "dangling.wav": lambda path: path.symlink_to("nowhere"),
}


def write(folder: Path, n: int) -> dict[str, set[str]]:
    """Write n bad or odd files, every kind in its turn; the statuses that are right for each, by its name."""
    kinds, made, expected = [*CONTENTS, *NOT_FILES], {}, {}
    for i in range(n):
        kind = kinds[i % len(kinds)]
        path = folder / f"bad-{i}-{kind}"
        if kind in CONTENTS:
            made.setdefault(kind, CONTENTS[kind][0]())
            path.write_bytes(made[kind])
        else:
            NOT_FILES[kind](path)
        expected[path.name] = CONTENTS[kind][1] if kind in CONTENTS else {"undecodable"}
    return expected


def clips_of(paths: list[Path]) -> pd.DataFrame:
    """Clips table that promises ten seconds of each file."""
    rows = [{"clip_id": p.name, "path": str(p), "stamp": "1", "start_s": 0.0, "end_s": 10.0} for p in paths]
    return pd.DataFrame(rows).assign(status="pending", reason="")


def main(n: int = 500, n_jobs: int = -1) -> None:
    """Build them, check every outcome, and print."""
    from genre.config import AudioConfig
    from genre.store import building, contents

    config, seconds = AudioConfig(), {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        expected = write(folder, n)
        for i in range(n):
            sf.write(folder / f"good-{i}.wav", music(), SR)
        good = [folder / f"good-{i}.wav" for i in range(n)]
        for what, paths in {"good": good, "both": good + [folder / name for name in expected]}.items():
            start = time.perf_counter()
            building.build_store(clips_of(paths).sample(frac=1, random_state=0), config, folder / what, n_jobs=n_jobs)
            seconds[what] = time.perf_counter() - start
        built = contents.read_outcomes(folder / "both").set_index("clip_id")
    wrong = {k: built["status"][k] for k in expected if built["status"][k] not in expected[k]}
    wrong |= {p.name: built["status"][p.name] for p in good if built["status"][p.name] != "ok"}
    kinds = built.loc[list(expected)].assign(kind=lambda t: t.index.str.split("-", n=2).str[2])
    print(pd.crosstab(kinds["kind"], kinds["status"]).to_string())
    print(f"\n{n} good files: {seconds['good']:.1f} s; with {n} bad ones among them: {seconds['both']:.1f} s")
    lacking = (kinds["status"] != "ok") & (kinds["reason"].str.len() < 10)
    assert not wrong and not lacking.any(), f"wrong: {wrong}; without reason: {list(kinds.index[lacking])}"


if __name__ == "__main__":
    import typer

    typer.run(main)
