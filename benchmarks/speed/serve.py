"""The served model under load: latency, a long track, many clients, a second worker, the pretrained music network.

A real ``mlflow models serve`` with one worker, asked over kept-alive connections by this process, which is another one.
The models are small and trained on synthetic music; the cost of a prediction does not depend on their scores.

    python -m benchmarks.speed.serve                                            # a quarter of an hour
    python -m benchmarks.speed.serve --models catboost --parts load --seconds 30
    python -m benchmarks.speed.serve --models catboost --seconds 2 --repeats 5     # two minutes
    python -m benchmarks.speed.serve --models catboost --before ../before    # and against another checkout's server
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
TRACK_AIM = 9

#: Claim for the throughput of four clients relative to one.
CLIENTS_AIM = 1.5

#: Claim for the first request, in times of the next ones.
FIRST_AIM = 1.1

#: Models of the same kind without and with the pretrained music network, and the claim for a clip of the second in
#: times of the first.
NETWORK_PAIR = ("svm", "svm_all_inputs")
NETWORK_AIM = 2

#: Requests to a server before another one has its turn, and turns of each.
TURN = {"clip": 10, "track": 2}
TURNS = 5


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
    print(
        f"first request {first[0].ms:.0f} ms, the next nine {later_ms:.0f} ms: {first[0].ms / later_ms:.2f} times "
        f"(aim {FIRST_AIM})"
    )
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


def compare_requests(servers: dict[str, server.Server], kind: str) -> list[str]:
    """Ask two servers in turn for a clip and for a track; print the second's times of the first; return the faults."""
    faults = []
    for name, seconds in (("clip", 10), ("track", 180)):
        data = clients.make_music_request(seconds, kind)
        turns: dict[str, list[tuple[float, float]]] = {label: [] for label in servers}
        for label, running in itertools.islice(itertools.cycle(servers.items()), len(servers) * (TURNS + 1)):
            *times, received = time_turn(running, data, TURN[name])
            turns[label].append((times[0], times[1]))
            faults += clients.count_missing(received)
        ms = {label: np.array(times[1:]) for label, times in turns.items()}  # the first turn warms up
        first, second = ms.values()
        for column, unit in enumerate(("by the clock", "of the server's processor time")):
            ratios = second[:, column] / first[:, column]
            medians = " and ".join(f"{label} {np.median(values[:, column]):.0f} ms" for label, values in ms.items())
            spread = f"{ratios.min():.2f} to {ratios.max():.2f}"
            print(f"{name}, {unit}: {medians}, {np.median(ratios):.2f} times ({spread})")
    return faults


def time_turn(running: server.Server, data: bytes, n: int) -> tuple[float, float, list[clients.Reply]]:
    """Send n requests; return the milliseconds of one by the clock and of the server's processor, and the replies."""
    client = clients.Client(running.url)
    start_s = running.cpu_seconds()
    replies = [client.predict(data) for _ in range(n)]
    cpu_ms = 1000 * (running.cpu_seconds() - start_s) / n
    return float(np.median([reply.ms for reply in replies])), cpu_ms, replies


def measure_network(root: Path, kind: str) -> list[str]:
    """Compare a model with the pretrained music network with one without it; return the faults."""
    without, including = NETWORK_PAIR
    with clients.serve_model(without, root) as one, clients.serve_model(including, root) as other:
        print(f"\n{including} against {without}, {kind} (aim for a clip: {NETWORK_AIM} times)")
        return compare_requests({without: one, including: other}, kind)


def measure_against(before: Path, name: str, root: Path, kind: str) -> list[str]:
    """Compare the server of a model with that of another checkout; return the faults."""
    root_before = root / "before"
    root_before.mkdir(exist_ok=True)
    with clients.serve_model(name, root) as one, clients.serve_model(name, root_before, before) as other:
        print(f"\n{name} of {before} against that of this checkout, {kind}")
        return compare_requests({"now": one, "before": other}, kind)


def main(
    models: str = "catboost,ensemble",
    parts: str = "latency,load,workers,network",
    kind: str = "FLAC",
    seconds: float = 60,
    repeats: int = 50,
    folder: Path | None = None,
    before: Path | None = None,
) -> None:
    """Measure servers of MODELS: PARTS of it, with files of a KIND, SECONDS per load.

    With a FOLDER the models stay there, and the next call trains none. BEFORE is another checkout of the project, with
    its own environment in .venv, whose server of the first model is compared.
    """
    functions = {
        "latency": lambda running: measure_latency(running.url, kind, repeats),
        "load": lambda running: measure_load(running.url, kind, seconds),
        "workers": lambda running: measure_workers(running, kind, seconds),
    }
    with clients.model_folder(folder) as root:
        of_models = ",".join(part for part in parts.split(",") if part in functions)
        if of_models:
            clients.run_parts(models, of_models, functions, file_format=kind, folder=root)
        faults = measure_network(root, kind) if "network" in parts.split(",") else []
        faults += measure_against(before, models.split(",")[0], root, kind) if before else []
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    typer.run(main)
