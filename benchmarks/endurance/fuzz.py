"""Thousands of hostile requests against a running server.

Claim: no crash, no status 500, no stack trace, and memory that does not grow. Replies that MLflow makes itself, before
the model is called, are listed in `MLFLOWS_OWN`; those are only searched for traces of our code.

    python -m benchmarks.endurance.fuzz            # 10,000 bodies, after as many that fill the heaps: two minutes
    python -m benchmarks.endurance.fuzz --n 200
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
import typer

from benchmarks._shared import server
from benchmarks._shared.music import encode_audio, make_beating_chord

Request = tuple[bytes, str | None]
MakeRequest = Callable[[np.random.Generator, dict[str, bytes]], Request]

JSON = "application/json"

#: Sampling rate of the files, Hz; Opus takes no 44.1 kHz.
SR = 48_000

#: Kinds of request that MLflow refuses by itself, with a status 500, or a 400 with its stack trace.
MLFLOWS_OWN = {"no content type", "deep JSON", "CSV", "Parquet"}

#: A line of a stack trace, its quotes escaped or not, that is in the logged model or the copy of ``genre`` beside it.
OUR_CODE = re.compile(rb'File \\?"(?![^"]*site-packages)[^"]*/(?:model\.py|genre/[^"]*\.py)')

#: Code of the model for an error that it did not expect.
FAILED = b'"code": "failed"'

#: Growth of the server's memory accepted over the bodies, MB. It is counted after as many bodies of warm-up: freed
#: memory stays with the threads' heaps, which have reached their size by then.
MAX_GROWTH_MB = 50

#: Files that PyAV writes: container, codec, channel layout.
BY_PYAV = {
    "m4a": ("mp4", "aac", "mono"),
    "aac": ("adts", "aac", "mono"),
    "wma": ("asf", "wmav2", "mono"),
    "webm": ("webm", "libopus", "mono"),
    "5.1 m4a": ("mp4", "aac", "5.1"),
    "wv": ("wv", "wavpack", "5.1"),
}

#: Files that soundfile writes: format and subtype.
BY_SOUNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "aiff": ("AIFF", "PCM_24"),
    "au": ("AU", "PCM_16"),
}

#: Numbers that are extreme in a header, as bytes.
HOSTILE = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x00\x00\x00\x00", b"\x00\x00\x00\x01", b"\xff\xff\xff\x7f"]


def encode_formats(seconds: float = 1.5) -> dict[str, bytes]:
    """Return a short piece of music in every format, by its name."""
    y = make_beating_chord(seconds, hz=330, sr=SR)
    samples = np.int16(32767 * np.clip(y, -1, 1))  # libsndfile rounds floats differently for FLAC and for WAV
    by_soundfile = {name: encode_audio(samples, SR, *settings) for name, settings in BY_SOUNDFILE.items()}
    return by_soundfile | {name: _encode_by_pyav(y, *settings) for name, settings in BY_PYAV.items()}


def _encode_by_pyav(y: np.ndarray, container: str, codec: str, layout: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=SR, layout=layout)
        stream.bit_rate = 96_000
        to_codec = av.AudioResampler(stream.format, layout, SR, stream.codec_context.frame_size or 960)
        channels = np.repeat(y, stream.layout.nb_channels)[None]  # all alike: a mono source would go to the centre
        whole = av.AudioFrame.from_ndarray(channels, format="flt", layout=layout)
        whole.sample_rate = SR
        for frame in [*to_codec.resample(whole), *to_codec.resample(None)]:
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def _as_request(data: bytes) -> Request:
    return server.make_request([base64.b64encode(data).decode()]), JSON


def _pick(rng: np.random.Generator, files: dict[str, bytes]) -> bytearray:
    return bytearray(files[str(rng.choice(list(files)))])


def _cut_short(rng: np.random.Generator, files: dict[str, bytes]) -> Request:
    data = _pick(rng, files)
    return _as_request(bytes(data[: int(rng.integers(0, len(data)))]))


def _flipped(rng: np.random.Generator, files: dict[str, bytes]) -> Request:
    data = _pick(rng, files)
    for position in rng.integers(0, len(data), rng.integers(1, 50)):
        data[position] ^= 1 << int(rng.integers(8))
    return _as_request(bytes(data))


def _hostile(rng: np.random.Generator, files: dict[str, bytes]) -> Request:
    data = _pick(rng, files)
    for position in rng.integers(4, 120, rng.integers(1, 6)):
        data[position : position + 4] = HOSTILE[int(rng.integers(len(HOSTILE)))]
    return _as_request(bytes(data))


def _wrong_types(rng: np.random.Generator, files: dict[str, bytes]) -> Request:
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


def _wrong_params(rng: np.random.Generator, files: dict[str, bytes]) -> Request:
    values: list[object] = [0, -1, 2, 10**30, 1.5, float("nan"), float("inf"), None, "x", [], {}, True, [1], {"a": {}}]
    name = ["top_k", "min_confidence", "timeline", "unheard_of", ""][int(rng.integers(5))]
    value = values[int(rng.integers(len(values)))]
    params = value if rng.random() < 0.2 else {name: value}
    rows = [{"audio": base64.b64encode(files["flac"]).decode()}]
    return json.dumps({"dataframe_records": rows, "params": params}).encode(), JSON


def _deep(rng: np.random.Generator, files: dict[str, bytes]) -> Request:
    n = int(10 ** rng.uniform(1, 5))
    inner = "[" * n + "]" * n if rng.random() < 0.5 else '{"a":' * n + "1" + "}" * n
    return f'{{"dataframe_records": [{{"audio": {inner}}}]}}'.encode(), JSON


#: Kinds of hostile request, by name.
KINDS: dict[str, MakeRequest] = {
    "whole file": lambda rng, files: _as_request(bytes(_pick(rng, files))),
    "random body": lambda rng, files: (rng.bytes(int(rng.integers(0, 3000))), JSON),
    "random row": lambda rng, files: _as_request(rng.bytes(int(rng.integers(0, 5000)))),
    "cut short": _cut_short,
    "bits flipped": _flipped,
    "hostile header": _hostile,
    "cut out of the middle": lambda rng, files: _as_request(bytes(_pick(rng, files)[int(rng.integers(1, 5000)) :])),
    "not base64": lambda rng, files: (server.make_request([rng.bytes(90).decode("latin1")]), JSON),
    "wrong types": _wrong_types,
    "wrong parameters": _wrong_params,
    "deep JSON": _deep,
    "no content type": lambda rng, files: (server.make_request(["x"]), None),
    "other content type": lambda rng, files: (files["wav"], "audio/wav"),
    "CSV": lambda rng, files: (rng.bytes(300), "text/csv"),
    "Parquet": lambda rng, files: (b"PAR1" + rng.bytes(300) + b"PAR1", "application/vnd.apache.parquet"),
}


def send_hostile_requests(
    url: str, n: int, seed: int = 0, clients: int = 2
) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Send hostile requests of every kind, in turn.

    Parameters
    ----------
    url : str
        ``host:port`` of a served model.
    n : int
        Number of requests.
    seed : int
        Seed of everything random.
    clients : int
        Number of requests at once.

    Returns
    -------
    Counter
        Replies by kind of request and status; status 0 is no reply.
    list of str
        Faults: requests without a reply, and replies for which `is_fault` is true.
    """
    files = encode_formats()
    names = list(KINDS)

    def send(i: int) -> tuple[str, int, str]:
        rng = np.random.default_rng([seed, i])
        kind = names[i % len(names)]
        data, content_type = KINDS[kind](rng, files)
        try:
            status, body = server.send_request(url, data, content_type=content_type)
        except OSError as error:
            return kind, 0, f"{kind} {i}: no reply: {error}"
        return kind, status, f"{kind} {i}: {status} {body[-300:]!r}" if is_fault(kind, status, body) else ""

    with ThreadPoolExecutor(clients) as pool:
        replies = list(pool.map(send, range(n)))
    return Counter((kind, status) for kind, status, _ in replies), [fault for *_, fault in replies if fault]


def is_fault(kind: str, status: int, body: bytes) -> bool:
    """Return True for a reply that must not be: of MLflow's own replies, only a stack trace through our code."""
    if kind in MLFLOWS_OWN:
        return bool(OUR_CODE.search(body))
    return status >= 500 or b"Traceback" in body or FAILED in body


def abandon_request(url: str) -> None:
    """Declare a body of a terabyte, send a little of it, and disconnect."""
    host, port = url.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: {JSON}\r\nContent-Length: {10**12}\r\n\r\n"
        connection.sendall(head.encode() + b'{"dataframe_records"')


def fuzz_server(running: server.Server, n: int, seed: int) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Send hostile requests to a server of our own; its death and the growth of its memory are faults as well."""
    counts, faults = send_hostile_requests(running.url, n, seed + 1)
    try:
        before = running.megabytes()
        start = time.monotonic()
        counts, more_faults = send_hostile_requests(running.url, n, seed)
        faults += more_faults
        for _ in range(10):
            abandon_request(running.url)
        seconds = time.monotonic() - start
        server.send_request(running.url, _as_request(encode_formats()["wav"])[0])
        growth = running.megabytes() - before
        is_alive = server.send_request(running.url, path="/ping")[0] == 200
    except (OSError, psutil.Error) as error:
        return counts, [f"the server died ({error}); the end of its log: {running.log.read_text()[-500:]}", *faults]
    print(f"{n} bodies in {seconds:.0f} s, after as many; memory {before:.0f} MB, and {growth:+.0f} MB after")
    faults += [] if is_alive else ["the server does not reply any more"]
    faults += [f"memory grew by {growth:.0f} MB"] if growth > MAX_GROWTH_MB else []
    return counts, faults


def main(n: int = 10_000, seed: int = 0, url: str = "") -> None:
    """Fuzz a server of a small model of our own, or the one at URL (host:port)."""
    with TemporaryDirectory() as folder:
        if url:
            counts, faults = send_hostile_requests(url, n, seed)
        else:
            uri = server.log_champion(["logistic_regression"], Path(folder))
            with server.serve_champion(uri, Path(folder)) as running:
                counts, faults = fuzz_server(running, n, seed)
    statuses_of: dict[str, dict[int, int]] = {}
    for (kind, status), count in sorted(counts.items()):
        statuses_of.setdefault(kind, {})[status] = count
    for kind, statuses in statuses_of.items():
        note = " (MLflow's own, before the model is called)" if kind in MLFLOWS_OWN and max(statuses) >= 500 else ""
        print(f"{kind:22} " + ", ".join(f"{status}: {count}" for status, count in statuses.items()) + note)
    if faults:
        sys.exit("\n".join(["", f"{len(faults)} faults:", *faults[:20]]))
    print("no fault")


if __name__ == "__main__":
    typer.run(main)
