"""Acquisition of 2,000 segments from a server that fails on a fifth of them, killed five times at random moments.

Claim: every segment ends in its right status, none is missing, none is corrupt, and only downloads under way at a kill
are repeated. It is the claim of `tests/genre/acquisition/test_session.py`, at full size, with its figures. The server
is on the loopback address and serves real audio to real yt-dlp, so the rate is that of this machine, not of YouTube.

    python -m benchmarks.endurance.acquire                       # ten minutes
    python -m benchmarks.endurance.acquire --segments 200
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import typer

from tests.genre.acquisition import test_session
from tests.support import videos


def main(segments: int = 2000, kills: int = 5, seed: int = 0) -> None:
    """Acquire segments through kills and faults, check every file, and print the figures."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        song = videos.song(folder / "song.wav", seconds=16, sr=8000)
        with videos.serving(song) as server:
            start = time.monotonic()
            lasting_faults = test_session.acquire_with_kills(server, folder, segments, kills, seed)
            seconds = time.monotonic() - start
            table = test_session.check_result(server, folder, lasting_faults, kills)
            healthy = [ytid for ytid in table.index if ytid not in server.faults]
            # each clip is served twice: to look it up and to download it
            repeated = sum(max(0, server.served[ytid] - 2) for ytid in healthy)
        counts = table["status"].value_counts()
        print(f"{segments} segments, {len(server.faults)} of them faulty, {kills} kills, {seconds:.0f} s")
        print(f"done {counts['done']}, gone {counts['gone']}, waiting {counts.get('waiting', 0)}")
        print(f"by class: {table.loc[table['status'] == 'gone', 'error'].value_counts().to_dict()}")
        print(f"missing 0, corrupt 0; requests repeated after a kill {repeated}")
        print(f"{60 * len(table) / seconds:.0f} segments per minute, attempts {table['attempts'].sum()}")


if __name__ == "__main__":
    typer.run(main)
