"""The served model under load: latency, a long track, many clients, a second worker, a kill, and memory.

A real `mlflow models serve` with one worker, asked over kept-alive connections by this process, which is another one.
Small models of synthesised music: what an answer costs does not hang on how well they are trained.

    python benchmarks/serve.py                                            # half an hour
    python benchmarks/serve.py --models catboost --parts load --seconds 30
    python benchmarks/serve.py --models catboost --seconds 2 --n 60 --repeats 5     # under a minute
"""

import http.client
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import server
import typer

#: Ensembles that can be served, by name.
MODELS = {"catboost": ["catboost"], "ensemble": ["catboost", "mel_cnn"]}

CLIENTS = (1, 4, 16)

#: Each number of clients is let loose so many times, in turn, so that a busy machine is busy for all.
ROUNDS = 3

#: At most so many clips' time for a track of three minutes, and how much faster four clients are to be than one.
TRACK_AIM, CLIENTS_AIM = 12, 1.4

#: Of the requests that show whether memory grows, as many come before it is first read.
WARM_UP = 500

#: Clients that wait for a server to come back ask so often.
PAUSE_S = 0.05


class Answer(NamedTuple):
    """When a request was sent and answered, by the monotonic clock, and the row told; None where there was none."""

    start_s: float
    end_s: float
    row: dict[str, object] | None

    @property
    def ms(self) -> float:
        """How long it took, milliseconds."""
        return 1000 * (self.end_s - self.start_s)


class Client:
    """One kept-alive connection, opened again where it broke."""

    def __init__(self, url: str) -> None:
        self.connection = http.client.HTTPConnection(url, timeout=120)

    def ask(self, data: bytes) -> Answer:
        """Send a request for one file."""
        start_s, row = time.monotonic(), None
        try:
            status, said = server.ask("", data, connection=self.connection)
        except (OSError, http.client.HTTPException):
            self.connection.close()
            return Answer(start_s, time.monotonic(), None)
        end_s = time.monotonic()
        if status == 200:
            row = json.loads(said)["predictions"][0]
        return Answer(start_s, end_s, row if row and row["error"] is None else None)


def track(seconds: float, kind: str) -> bytes:
    """A request for stereo music at 44.1 kHz."""
    sides = [server.music(seconds, hz=220, seed=seed, sr=44100) for seed in (1, 2)]
    return server.body([server.encoded(np.stack(sides, axis=1), 44100, kind)])


def ask_while(more: Callable[[], bool], url: str, data: bytes, clients: int) -> list[Answer]:
    """Answers to clients that each ask again as soon as they are answered."""

    def one(_: int) -> list[Answer]:
        client, answers = Client(url), []
        while more():
            answers.append(client.ask(data))
            if answers[-1].row is None:
                time.sleep(PAUSE_S)
        return answers

    with ThreadPoolExecutor(clients) as pool:
        return [answer for answers in pool.map(one, range(clients)) for answer in answers]


def until(deadline_s: float) -> Callable[[], bool]:
    """Whether the time has not come yet."""
    return lambda: time.monotonic() < deadline_s


def times(n: int) -> Callable[[], bool]:
    """Whether it was asked less than n times, by all threads together."""
    counter = itertools.count()
    return lambda: next(counter) < n


def latency(url: str, kind: str, repeats: int) -> list[str]:
    """The first request to a fresh server against the next nine, then a clip and a track in turn; faults."""
    client, clip, long = Client(url), track(10, kind), track(180, kind)
    first = [client.ask(clip) for _ in range(10)]
    answers = [(client.ask(clip), client.ask(long) if i % 5 == 0 else None) for i in range(repeats)]
    clips = [answer.ms for answer, _ in answers]
    tracks = [longer.ms for _, longer in answers if longer]
    later = float(np.median([answer.ms for answer in first[1:]]))
    print(f"first request {first[0].ms:.0f} ms, the next nine {later:.0f} ms: {first[0].ms / later:.2f} times")
    print(f"clip of ten seconds: {percentiles(clips)}, {len(clips)} times {len(clip) / 1e6:.1f} MB")
    print(f"track of three minutes: {percentiles(tracks)}, {len(tracks)} times {len(long) / 1e6:.1f} MB")
    ratios = [longer.ms / answer.ms for answer, longer in answers if longer]
    spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
    print(f"track / clip: {np.median(tracks) / np.median(clips):.1f} times ({spread}; aim {TRACK_AIM})")
    return missing([*first, *(answer for pair in answers for answer in pair if answer)])


def percentiles(ms: list[float]) -> str:
    """Median and 99th percentile for the terminal."""
    return f"p50 {np.percentile(ms, 50):.0f} ms, p99 {np.percentile(ms, 99):.0f} ms"


def missing(answers: list[Answer]) -> list[str]:
    """Faults: requests that got no answer, or an error."""
    n = sum(answer.row is None for answer in answers)
    return [f"{n} of {len(answers)} requests were not answered"] if n else []


def load(url: str, kind: str, seconds: float) -> list[str]:
    """Throughput of some numbers of clients relative to one; faults."""
    data, rates, answers = track(10, kind), {n: [] for n in CLIENTS}, {n: [] for n in CLIENTS}
    for _, n in itertools.product(range(ROUNDS), CLIENTS):
        start_s = time.monotonic()
        got = ask_while(until(start_s + seconds / ROUNDS), url, data, n)
        rates[n].append(len(got) / (time.monotonic() - start_s))
        answers[n] += got
    for n in CLIENTS:
        ratios = np.divide(rates[n], rates[1])
        spread = f"{ratios.min():.2f} to {ratios.max():.2f}"
        lost = sum(answer.row is None for answer in answers[n])
        print(
            f"{n:2} clients: {np.median(ratios):.2f} times one's requests/s ({spread}), {np.median(rates[n]):.1f}/s, "
            f"{percentiles([answer.ms for answer in answers[n]])}, {lost} errors of {len(answers[n])}"
        )
    print(f"aim: 4 clients {CLIENTS_AIM} times")
    return [fault for n in CLIENTS for fault in missing(answers[n])]


def second_worker(running: server.Server, kind: str, seconds: float) -> list[str]:
    """Throughput and latency with two worker processes relative to one, of one client and of four; faults."""
    data, answers = track(10, kind), []
    with server.served(running.uri, running.log.parent, workers=2) as two:
        for url in (running.url, two.url):
            ask_while(times(20), url, data, 4)
        for n in (1, 4):
            rates, ms = {1: [], 2: []}, {1: [], 2: []}
            for _, (workers, url) in itertools.product(range(ROUNDS), [(1, running.url), (2, two.url)]):
                start_s = time.monotonic()
                got = ask_while(until(start_s + seconds / ROUNDS), url, data, n)
                rates[workers].append(len(got) / (time.monotonic() - start_s))
                ms[workers] += [answer.ms for answer in got]
                answers += got
            ratios = np.divide(rates[2], rates[1])
            print(
                f"two workers, {n} clients: {np.median(ratios):.2f} times one's requests/s ({ratios.min():.2f} to "
                f"{ratios.max():.2f}), p50 {np.median(ms[2]):.0f} ms against {np.median(ms[1]):.0f}"
            )
    return missing(answers)


def killed(running: server.Server, kind: str, seconds: float) -> list[str]:
    """A kill -9 amid the requests of four clients, and a new server in its place; faults."""
    data, done, answers = track(10, kind), threading.Event(), []
    asking = threading.Thread(target=lambda: answers.extend(ask_while(lambda: not done.is_set(), running.url, data, 4)))
    asking.start()
    try:
        time.sleep(seconds)
        gone_s = time.monotonic()
        running.kill()
        running.start()
        running.wait()
        back_s = time.monotonic()
        time.sleep(seconds)
    finally:
        done.set()
        asking.join()
    before = [answer for answer in answers if answer.end_s < gone_s]
    after = [answer for answer in answers if answer.start_s > back_s]
    lost = [answer for answer in answers if answer.row is None and answer not in before + after]
    cut = sum(answer.start_s < gone_s for answer in lost)
    print(
        f"kill -9: {len(before)} answers before; back after {back_s - gone_s:.0f} s, {cut} requests cut off and "
        f"{len(lost) - cut} refused meanwhile; {len(after)} answers after"
    )
    rows = [answer.row for answer in answers if answer.row]
    apart = max(difference(rows[0], row) for row in rows)
    print(f"answers before and after: {'equal' if all(row == rows[0] for row in rows) else f'{apart:.1e} apart'}")
    same = [] if apart <= 1e-5 and before and after else ["the answers after the kill are other ones"]
    return missing(before) + missing(after) + same


def difference(one: dict[str, object], other: dict[str, object]) -> float:
    """Largest difference of a genre's probability."""
    p, q = one["probabilities"], other["probabilities"]
    assert isinstance(p, dict) and isinstance(q, dict)
    return max(abs(p[genre] - q[genre]) for genre in p)


def memory(running: server.Server, kind: str, n: int) -> list[str]:
    """What the server holds after some requests and after many, of four clients; faults."""
    data, first = track(10, kind), min(WARM_UP, n // 2)
    answers = ask_while(times(first), running.url, data, 4)
    before = running.megabytes()
    answers += ask_while(times(n - first), running.url, data, 4)
    after = running.megabytes()
    print(f"memory: {before:.0f} MB after {first} requests, {after:.0f} MB after {n}: {after / before:.2f} times")
    return missing(answers)


@contextmanager
def kept(folder: Path | None) -> Iterator[Path]:
    """A folder that stays, or one that goes."""
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with TemporaryDirectory() as temporary:
            yield Path(temporary)


def main(
    models: str = ",".join(MODELS),
    parts: str = "latency,load,workers,kill,memory",
    kind: str = "FLAC",
    seconds: float = 60,
    n: int = 5000,
    repeats: int = 50,
    folder: Path | None = None,
) -> None:
    """Measure servers of MODELS: PARTS of it, with files of a KIND, SECONDS a load, N requests for memory.

    With a FOLDER the models stay there, and the next call trains none.
    """
    faults = []
    with kept(folder) as place:
        for name in models.split(","):
            known = place / name
            uri = f"sqlite:///{known / 'mlflow.db'}"
            if not (known / "mlflow.db").exists():
                known.mkdir()
                uri = server.log_champion(MODELS[name], known)
            with server.served(uri, known) as running:
                print(f"\n{name}: stereo {kind} at 44.1 kHz")
                measured: dict[str, Callable[[], list[str]]] = {
                    "latency": lambda: latency(running.url, kind, repeats),
                    "load": lambda: load(running.url, kind, seconds),
                    "workers": lambda: second_worker(running, kind, seconds),
                    "kill": lambda: killed(running, kind, min(10, seconds)),
                    "memory": lambda: memory(running, kind, n),
                }
                faults += [f"{name}: {fault}" for part in parts.split(",") for fault in measured[part]()]
    if faults:
        sys.exit("\n".join(["", *faults]))


if __name__ == "__main__":
    typer.run(main)
