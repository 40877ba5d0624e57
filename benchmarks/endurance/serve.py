"""A served model that is killed amid requests, and its memory over thousands of them.

Claims: after a ``kill -9`` a new server predicts as before within seconds; memory does not grow with the requests. A
real ``mlflow models serve`` with one worker and small models of synthetic music, asked over kept-alive connections.

    python -m benchmarks.endurance.serve                                            # ten minutes
    python -m benchmarks.endurance.serve --models catboost --seconds 2 --n 60       # under a minute
"""

import threading
import time
from pathlib import Path

import typer

from benchmarks._shared import clients, server

#: Requests before the memory is first read, at most.
WARM_UP = 500

#: Clients that send at once.
N_CLIENTS = 4

#: Largest difference accepted between the probabilities before and after a kill.
MAX_DIFFERENCE = 1e-5


def measure_kill(running: server.Server, data: bytes, seconds: float) -> list[str]:
    """Kill the server amid requests and start another on its port; print the figures and return the faults."""
    done = threading.Event()
    replies: list[clients.Reply] = []

    def send() -> None:
        replies.extend(clients.send_while(lambda: not done.is_set(), running.url, data, N_CLIENTS))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        time.sleep(seconds)
        killed_s = time.monotonic()
        running.kill()
        running.start()
        running.wait()
        back_s = time.monotonic()
        time.sleep(seconds)
    finally:
        done.set()
        sender.join()
    return report_kill(replies, killed_s, back_s)


def report_kill(replies: list[clients.Reply], killed_s: float, back_s: float) -> list[str]:
    """Print how many requests a kill cost and whether the predictions are the same after it; return the faults."""
    before = [reply for reply in replies if reply.end_s < killed_s]
    after = [reply for reply in replies if reply.start_s > back_s]
    lost = [reply for reply in replies if reply.row is None and reply not in before + after]
    n_cut = sum(reply.start_s < killed_s for reply in lost)
    print(
        f"kill -9: {len(before)} answers before; back after {back_s - killed_s:.0f} s, {n_cut} requests cut off and "
        f"{len(lost) - n_cut} refused meanwhile; {len(after)} answers after"
    )
    rows = [reply.row for reply in replies if reply.row]
    difference = max(largest_difference(rows[0], row) for row in rows)
    equal = all(row == rows[0] for row in rows)
    print(f"answers before and after: {'equal' if equal else f'{difference:.1e} apart'}")
    faults = clients.count_missing(before) + clients.count_missing(after)
    if difference > MAX_DIFFERENCE or not before or not after:
        faults.append("the predictions after the kill differ from those before")
    return faults


def largest_difference(row: dict[str, object], other: dict[str, object]) -> float:
    """Return the largest difference of a genre's probability."""
    p = row["probabilities"]
    q = other["probabilities"]
    assert isinstance(p, dict) and isinstance(q, dict)
    return max(abs(p[genre] - q[genre]) for genre in p)


def measure_memory(running: server.Server, data: bytes, n: int) -> list[str]:
    """Print the server's memory after some requests and after n; return the faults."""
    n_first = min(WARM_UP, n // 2)
    replies = clients.send_while(clients.first(n_first), running.url, data, N_CLIENTS)
    before = running.megabytes()
    replies += clients.send_while(clients.first(n - n_first), running.url, data, N_CLIENTS)
    after = running.megabytes()
    print(f"memory: {before:.0f} MB after {n_first} requests, {after:.0f} MB after {n}: {after / before:.2f} times")
    return clients.count_missing(replies)


def main(
    models: str = "catboost,ensemble",
    parts: str = "kill,memory",
    kind: str = "FLAC",
    seconds: float = 10,
    n: int = 5000,
    folder: Path | None = None,
) -> None:
    """Measure servers of MODELS: PARTS of it, with files of a KIND, SECONDS before and after a kill, N requests.

    With a FOLDER the models stay there, and the next call trains none.
    """
    data = clients.make_music_request(10, kind)
    functions = {
        "kill": lambda running: measure_kill(running, data, seconds),
        "memory": lambda running: measure_memory(running, data, n),
    }
    clients.run_parts(models, parts, functions, file_format=kind, folder=folder)


if __name__ == "__main__":
    typer.run(main)
