"""The served model under load: latency, a long track, many clients, a second worker.

A real ``mlflow models serve`` with one worker, asked over kept-alive connections by this process, which is another one.
The models are small and trained on synthetic music; the cost of a prediction does not depend on their scores.

    python -m benchmarks.speed.serve                                            # a quarter of an hour
    python -m benchmarks.speed.serve --models catboost --parts load --seconds 30
    python -m benchmarks.speed.serve --models catboost --seconds 2 --repeats 5     # under a minute
"""

import itertools
import time
from pathlib import Path

import numpy as np
import typer

from benchmarks._shared import clients, server

#: Numbers of clients that are compared.
CLIENTS = (1, 4, 16)

#: Rounds, in each of which every number of clients or workers has its turn, so that a busy machine slows down all.
ROUNDS = 3

#: Claim for a track of three minutes, in times of a clip.
TRACK_AIM = 12

#: Claim for the throughput of four clients relative to one.
CLIENTS_AIM = 1.4


def measure_latency(url: str, kind: str, repeats: int) -> list[str]:
    """Compare the first request to a fresh server with the next nine, then a track with a clip; return the faults."""
    client = clients.Client(url)
    clip = clients.make_music_request(10, kind)
    track = clients.make_music_request(180, kind)
    first = [client.predict(clip) for _ in range(10)]
    pairs = [(client.predict(clip), client.predict(track) if i % 5 == 0 else None) for i in range(repeats)]
    clip_ms = [reply.ms for reply, _ in pairs]
    track_ms = [reply.ms for _, reply in pairs if reply]
    ratios = [of_track.ms / of_clip.ms for of_clip, of_track in pairs if of_track]
    later_ms = float(np.median([reply.ms for reply in first[1:]]))
    print(f"first request {first[0].ms:.0f} ms, the next nine {later_ms:.0f} ms: {first[0].ms / later_ms:.2f} times")
    print(f"clip of ten seconds: {clients.format_percentiles(clip_ms)}, {len(clip_ms)} times {len(clip) / 1e6:.1f} MB")
    print(
        f"track of three minutes: {clients.format_percentiles(track_ms)}, {len(track_ms)} times "
        f"{len(track) / 1e6:.1f} MB"
    )
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
    print(f"track / clip: {np.median(track_ms) / np.median(clip_ms):.1f} times ({spread}; aim {TRACK_AIM})")
    return clients.count_missing([*first, *(reply for pair in pairs for reply in pair if reply)])


def measure_rate(url: str, data: bytes, n_clients: int, seconds: float) -> tuple[float, list[clients.Reply]]:
    """Send requests for some seconds; return requests per second and the replies."""
    start_s = time.monotonic()
    replies = clients.send_while(clients.before(start_s + seconds), url, data, n_clients)
    return len(replies) / (time.monotonic() - start_s), replies


def measure_load(url: str, kind: str, seconds: float) -> list[str]:
    """Compare the throughput of several clients with that of one; return the faults."""
    data = clients.make_music_request(10, kind)
    rates: dict[int, list[float]] = {n: [] for n in CLIENTS}
    replies: dict[int, list[clients.Reply]] = {n: [] for n in CLIENTS}
    for _, n in itertools.product(range(ROUNDS), CLIENTS):
        rate, received = measure_rate(url, data, n, seconds / ROUNDS)
        rates[n].append(rate)
        replies[n] += received
    for n in CLIENTS:
        ratios = np.divide(rates[n], rates[1])
        spread = f"{ratios.min():.2f} to {ratios.max():.2f}"
        n_errors = sum(reply.row is None for reply in replies[n])
        print(
            f"{n:2} clients: {np.median(ratios):.2f} times one's requests/s ({spread}), {np.median(rates[n]):.1f}/s, "
            f"{clients.format_percentiles([reply.ms for reply in replies[n]])}, {n_errors} errors of {len(replies[n])}"
        )
    print(f"aim: 4 clients {CLIENTS_AIM} times")
    return [fault for n in CLIENTS for fault in clients.count_missing(replies[n])]


def measure_workers(running: server.Server, kind: str, seconds: float) -> list[str]:
    """Compare two worker processes with one, for one client and for four; return the faults."""
    data = clients.make_music_request(10, kind)
    faults = []
    with server.serve_champion(running.uri, running.log.parent, workers=2) as two:
        for url in (running.url, two.url):
            clients.send_while(clients.first(20), url, data, 4)
        for n in (1, 4):
            faults += compare_workers({1: running.url, 2: two.url}, data, n, seconds)
    return faults


def compare_workers(urls: dict[int, str], data: bytes, n_clients: int, seconds: float) -> list[str]:
    """Print throughput and latency of two servers, by their number of workers; return the faults."""
    rates: dict[int, list[float]] = {n: [] for n in urls}
    replies: dict[int, list[clients.Reply]] = {n: [] for n in urls}
    for _, n in itertools.product(range(ROUNDS), urls):
        rate, received = measure_rate(urls[n], data, n_clients, seconds / ROUNDS)
        rates[n].append(rate)
        replies[n] += received
    ratios = np.divide(rates[2], rates[1])
    ms = {n: np.median([reply.ms for reply in replies[n]]) for n in urls}
    print(
        f"two workers, {n_clients} clients: {np.median(ratios):.2f} times one's requests/s ({ratios.min():.2f} to "
        f"{ratios.max():.2f}), p50 {ms[2]:.0f} ms against {ms[1]:.0f}"
    )
    return clients.count_missing([*replies[1], *replies[2]])


def main(
    models: str = ",".join(clients.MODELS),
    parts: str = "latency,load,workers",
    kind: str = "FLAC",
    seconds: float = 60,
    repeats: int = 50,
    folder: Path | None = None,
) -> None:
    """Measure servers of MODELS: PARTS of it, with files of a KIND, SECONDS per load.

    With a FOLDER the models stay there, and the next call trains none.
    """
    functions = {
        "latency": lambda running: measure_latency(running.url, kind, repeats),
        "load": lambda running: measure_load(running.url, kind, seconds),
        "workers": lambda running: measure_workers(running, kind, seconds),
    }
    clients.run_parts(models, parts, functions, file_format=kind, folder=folder)


if __name__ == "__main__":
    typer.run(main)
