"""Thousands of hostile requests against a running server: no crash, no 500, no stack trace, memory that stays.

What MLflow answers of its own before the model is asked is listed apart, in `MLFLOWS_OWN`, and only read for our code.

    python benchmarks/fuzz.py            # 10,000 bodies, after as many that fill the heaps: two minutes
    python benchmarks/fuzz.py --n 200
"""

import base64
import io
import json
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import psutil
import server
import soundfile as sf
import typer

Request = tuple[bytes, str | None]
Make = Callable[[np.random.Generator, dict[str, bytes]], Request]

JSON = "application/json"

#: Kinds of request that MLflow refuses by itself in words of its own: a 500, or a 400 with its stack trace.
MLFLOWS_OWN = {"no content type", "deep JSON", "CSV", "Parquet"}

#: A line of a stack trace, its quotes escaped or not, that is in the logged model or the copy of ``genre`` beside it.
OUR_CODE = re.compile(rb'File \\?"(?![^"]*site-packages)[^"]*/(?:model\.py|genre/[^"]*\.py)')

#: What the model says of a bug of its own.
FAILED = b'"code": "failed"'

#: Megabytes that a server may hold more after the bodies than after as many before them: what is freed stays with the
#: threads' heaps, which have grown to their size by then.
MAX_GROWTH_MB = 50

#: Containers, codecs and channels that PyAV writes.
BY_PYAV = {
    **{"m4a": ("mp4", "aac", "mono"), "aac": ("adts", "aac", "mono"), "wma": ("asf", "wmav2", "mono")},
    **{"webm": ("webm", "libopus", "mono"), "7.1 m4a": ("mp4", "aac", "7.1"), "wv": ("wv", "wavpack", "7.1")},
}

#: Formats and subtypes that soundfile writes.
BY_SOUNDFILE = {
    **{"wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III")},
    **{"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "aiff": ("AIFF", "PCM_24"), "au": ("AU", "FLOAT")},
}

#: Numbers that a header has no business with.
HOSTILE = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x00\x00\x00\x01", b"\xff\xff\xff\x7f"]


def files(seconds: float = 1.5) -> dict[str, bytes]:
    """A short piece of music in every format, by its name."""
    y, made = server.music(seconds, hz=330, sr=48000), {}
    for suffix, (container, subtype) in BY_SOUNDFILE.items():
        file = io.BytesIO()
        # libsndfile rounds floats otherwise for FLAC than for WAV
        sf.write(file, np.int16(32767 * np.clip(y, -1, 1)), 48000, format=container, subtype=subtype)
        made[suffix] = file.getvalue()
    return made | {name: _by_pyav(y, *how) for name, how in BY_PYAV.items()}


def _by_pyav(y: np.ndarray, container: str, codec: str, layout: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=48000, layout=layout)
        stream.bit_rate = 96_000
        to_codec = av.AudioResampler(stream.format, layout, 48000, stream.codec_context.frame_size or 960)
        channels = np.repeat(y, stream.layout.nb_channels)[None]  # the same in each: a mono one would be the middle's
        whole = av.AudioFrame.from_ndarray(channels, format="flt", layout=layout)
        whole.sample_rate = 48000
        for frame in [*to_codec.resample(whole), *to_codec.resample(None)]:
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def _of(data: bytes) -> Request:
    return server.body([base64.b64encode(data).decode()]), JSON


def _any(rng: np.random.Generator, known: dict[str, bytes]) -> bytearray:
    return bytearray(known[str(rng.choice(list(known)))])


def _flipped(rng: np.random.Generator, known: dict[str, bytes]) -> Request:
    data = _any(rng, known)
    for at in rng.integers(0, len(data), rng.integers(1, 50)):
        data[at] ^= 1 << int(rng.integers(8))
    return _of(bytes(data))


def _hostile(rng: np.random.Generator, known: dict[str, bytes]) -> Request:
    data = _any(rng, known)
    for at in rng.integers(4, 120, rng.integers(1, 6)):
        data[at : at + 4] = HOSTILE[int(rng.integers(len(HOSTILE)))]
    return _of(bytes(data))


def _wrong_types(rng: np.random.Generator, known: dict[str, bytes]) -> Request:
    values: list[object] = [1, None, True, 1.5, [], {}, [1, "x"], {"a": 1}, "", "x", "\ud800", "\x00", 10**400]
    value = values[int(rng.integers(len(values)))]
    column = ["audio", "Audio", "", "sound"][int(rng.integers(4))]
    shapes: list[object] = [
        {"dataframe_records": [{column: value}, {column: "x"}]},
        {"dataframe_records": value},
        {"dataframe_split": {"columns": [column, column], "data": [[value, value]]}},
        {"dataframe_split": value},
        {"instances": [{column: value}]},
        {"instances": value},
        {"inputs": {column: value}},
        {"inputs": value},
        {"inputs": [value], "instances": [value]},
        {"messages": [{"role": "user", "content": value}]},
        {"input": value},
        value,
        {column: value},
    ]
    return json.dumps(shapes[int(rng.integers(len(shapes)))]).encode(), JSON


def _wrong_params(rng: np.random.Generator, known: dict[str, bytes]) -> Request:
    values: list[object] = [0, -1, 2, 10**30, 1.5, float("nan"), float("inf"), None, "x", [], {}, True, [1], {"a": {}}]
    name = ["top_k", "min_confidence", "timeline", "unheard_of", ""][int(rng.integers(5))]
    value = values[int(rng.integers(len(values)))]
    params = value if rng.random() < 0.2 else {name: value}
    rows = [{"audio": base64.b64encode(known["flac"]).decode()}]
    return json.dumps({"dataframe_records": rows, "params": params}).encode(), JSON


def _deep(rng: np.random.Generator, known: dict[str, bytes]) -> Request:
    n = int(10 ** rng.uniform(1, 5))
    inner = "[" * n + "]" * n if rng.random() < 0.5 else '{"a":' * n + "1" + "}" * n
    return f'{{"dataframe_records": [{{"audio": {inner}}}]}}'.encode(), JSON


#: Ways of being hostile, by name.
KINDS: dict[str, Make] = {
    "whole file": lambda rng, known: _of(bytes(_any(rng, known))),
    "random body": lambda rng, known: (rng.bytes(int(rng.integers(0, 3000))), JSON),
    "random row": lambda rng, known: _of(rng.bytes(int(rng.integers(0, 5000)))),
    "cut short": lambda rng, known: _of(bytes((d := _any(rng, known))[: int(rng.integers(0, len(d)))])),
    "bits flipped": _flipped,
    "hostile header": _hostile,
    "cut out of the middle": lambda rng, known: _of(bytes(_any(rng, known)[int(rng.integers(1, 5000)) :])),
    "not base64": lambda rng, known: (server.body([rng.bytes(90).decode("latin1")]), JSON),
    "wrong types": _wrong_types,
    "wrong parameters": _wrong_params,
    "deep JSON": _deep,
    "no content type": lambda rng, known: (server.body(["x"]), None),
    "other content type": lambda rng, known: (known["wav"], "audio/wav"),
    "CSV": lambda rng, known: (rng.bytes(300), "text/csv"),
    "Parquet": lambda rng, known: (b"PAR1" + rng.bytes(300) + b"PAR1", "application/vnd.apache.parquet"),
}


def fuzz(url: str, n: int, seed: int = 0, clients: int = 2) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Send hostile requests.

    Parameters
    ----------
    url : str
        ``host:port`` of a served model.
    n : int
        How many.
    seed : int
        Of all that is random.
    clients : int
        How many at once.

    Returns
    -------
    Counter
        Answers by kind of request and status.
    list of str
        What must not have happened: no answer, or one by `is_fault`.
    """
    known, names = files(), list(KINDS)

    def one(i: int) -> tuple[str, int, str]:
        rng, kind = np.random.default_rng([seed, i]), names[i % len(names)]
        data, content_type = KINDS[kind](rng, known)
        try:
            status, said = server.ask(url, data, content_type=content_type)
        except OSError as error:
            return kind, 0, f"{kind} {i}: no answer: {error}"
        return kind, status, f"{kind} {i}: {status} {said[-300:]!r}" if is_fault(kind, status, said) else ""

    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(one, range(n)))
    return Counter((kind, status) for kind, status, _ in answers), [fault for *_, fault in answers if fault]


def is_fault(kind: str, status: int, said: bytes) -> bool:
    """Whether an answer is one that must not be: of MLflow's own, only a stack trace through our code."""
    if kind in MLFLOWS_OWN:
        return bool(OUR_CODE.search(said))
    return status >= 500 or b"Traceback" in said or FAILED in said


def promise_much(url: str) -> None:
    """Declare a body of a terabyte, send a little, and go."""
    host, port = url.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: {JSON}\r\nContent-Length: {10**12}\r\n\r\n"
        connection.sendall(head.encode() + b'{"dataframe_records"')


def _fuzz_own(running: server.Server, n: int, seed: int) -> tuple[Counter[tuple[str, int]], list[str]]:
    """`fuzz` a server of which we see the memory, and whose death is a fault of its own."""
    counts, faults = fuzz(running.url, n, seed + 1)
    try:
        before, started = running.megabytes(), time.monotonic()
        counts, more = fuzz(running.url, n, seed)
        faults += more
        for _ in range(10):
            promise_much(running.url)
        seconds = time.monotonic() - started
        server.ask(running.url, _of(files()["wav"])[0])
        growth = running.megabytes() - before
        alive = server.ask(running.url, path="/ping")[0] == 200
    except (OSError, psutil.Error) as error:
        return counts, [f"the server died ({error}); its last words: {running.log.read_text()[-500:]}", *faults]
    print(f"{n} bodies in {seconds:.0f} s, after as many; memory {before:.0f} MB, and {growth:+.0f} MB after")
    faults += [] if alive else ["the server does not answer any more"]
    faults += [f"memory grew by {growth:.0f} MB"] if growth > MAX_GROWTH_MB else []
    return counts, faults


def main(n: int = 10_000, seed: int = 0, url: str = "") -> None:
    """Fuzz a server of a small model of our own, or the one at URL (host:port)."""
    with TemporaryDirectory() as folder:
        if url:
            counts, faults = fuzz(url, n, seed)
        else:
            uri = server.log_champion(["logistic_regression"], Path(folder))
            with server.served(uri, Path(folder)) as running:
                counts, faults = _fuzz_own(running, n, seed)
    kinds: dict[str, dict[int, int]] = {}
    for (kind, status), count in sorted(counts.items()):
        kinds.setdefault(kind, {})[status] = count
    for kind, statuses in kinds.items():
        own = " (MLflow's own, before the model is asked)" if kind in MLFLOWS_OWN and max(statuses) >= 500 else ""
        print(f"{kind:22} " + ", ".join(f"{status}: {count}" for status, count in statuses.items()) + own)
    if faults:
        sys.exit("\n".join(["", f"{len(faults)} faults:", *faults[:20]]))
    print("no fault")


if __name__ == "__main__":
    typer.run(main)
