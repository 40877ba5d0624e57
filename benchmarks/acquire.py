"""Two thousand segments against a server with faults in a fifth of them, killed five times at random moments.

Claim: every segment ends in its right status, none is missing, none corrupt, and none is fetched twice but what was
under way at a kill. It is that of `tests/genre/acquisition/test_session.py`, at full size; the figures are
printed. The server is on the loopback address and serves real audio to real yt-dlp: the rate says what the machine
can do, nothing of YouTube.

    python benchmarks/acquire.py                       # ten minutes
    python benchmarks/acquire.py --segments 200
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import measure  # noqa: F401  (finds the project)
import typer

from tests.genre.acquisition import test_session
from tests.support import videos


def main(segments: int = 2000, kills: int = 5, seed: int = 0) -> None:
    """Acquire, kill, acquire, check, and print."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        song = videos.song(folder / "song.wav", seconds=16, sr=8000)
        with videos.serving(song) as server:
            begun = time.monotonic()
            lasting = test_session.acquire_with_kills(server, folder, segments, kills, seed)
            seconds = time.monotonic() - begun
            table = test_session.check_result(server, folder, lasting, kills)
            healthy = [ytid for ytid in table.index if ytid not in server.faults]
            again = sum(max(0, server.served[ytid] - 2) for ytid in healthy)
        counts = table["status"].value_counts()
        print(f"{segments} segments, {len(server.faults)} of them faulty, {kills} kills, {seconds:.0f} s")
        print(f"done {counts['done']}, gone {counts['gone']}, waiting {counts.get('waiting', 0)}")
        print(f"by class: {table.loc[table['status'] == 'gone', 'error'].value_counts().to_dict()}")
        print(f"missing 0, corrupt 0; requests served again after a kill {again}")
        print(f"{60 * len(table) / seconds:.0f} segments a minute, attempts {table['attempts'].sum()}")


if __name__ == "__main__":
    typer.run(main)
