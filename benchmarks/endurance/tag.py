"""The flow ``tag`` killed half way through a music library, and its tags written and undone.

Claims: no file is predicted twice after a kill, and undoing the tags restores every byte. Needs a champion, in the
registry that MLFLOW_TRACKING_URI names.

    python -m benchmarks.endurance.tag --source ~/clips             # 2,000 files, pieces of these
    python -m benchmarks.endurance.tag --source ~/clips --n 40      # two minutes
"""

import hashlib
import os
import re
import signal
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks._shared.library import count_predictions, start_tag_flow, wait_for_output, write_library
from genre.audio.listing import find_audio_files
from tracking import runs


def kill_half_way(home: Path, music: Path, n: int) -> None:
    """Kill the flow after half of n files and start it again; it must predict only the others."""
    process = start_tag_flow(home, "--source", str(music))
    while count_predictions(home) < n / 2:
        assert process.poll() is None, wait_for_output(process)
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)  # with Prefect's temporary server, which would stay otherwise
    process.communicate()
    n_done = count_predictions(home)
    output = wait_for_output(start_tag_flow(home, "--source", str(music)))
    match = re.search(rf"\b{n} files, \D*(\d+)", output)
    assert match, output
    n_further = int(match[1])
    assert n_further == n - n_done, f"{n_further} files predicted after {n_done} of {n}"
    assert count_predictions(home) == n
    print(f"killed after {n_done} of {n} files; then {n_further} were predicted")


def read_states(music: Path) -> dict[Path, tuple[str, int]]:
    """Return the hash and the modification time of every file."""
    return {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in find_audio_files(music)
    }


def write_and_undo(home: Path, music: Path) -> None:
    """Write tags, undo them, and compare every file with its former state."""
    before = read_states(music)
    start = time.perf_counter()
    wait_for_output(start_tag_flow(home, "--source", str(music), "--write-tags", "true", "--dry-run", "false"))
    seconds = time.perf_counter() - start
    after = read_states(music)
    n_tagged = sum(after[path] != state for path, state in before.items())
    (undo_file,) = (home / "library" / "undo").iterdir()
    share = undo_file.stat().st_size / sum(path.stat().st_size for path in before)
    wait_for_output(start_tag_flow(home, "--undo", str(undo_file)))
    assert read_states(music) == before, "a file differs from its former state"
    print(f"{n_tagged} files tagged in {seconds:.0f} s and undone, all {len(before)} byte for byte as before")
    print(f"the undo file has {100 * share:.2f} % of the music's bytes")


def main(source: Annotated[Path, typer.Option()], n: int = 2000) -> None:
    """Kill and undo the flow on N files made of those in SOURCE, and print the figures."""
    os.environ["MLFLOW_TRACKING_URI"] = runs.connect()
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_library(source.expanduser(), n, folder / "music")
        kill_half_way(folder / "home", folder / "music", n)
        write_and_undo(folder / "home", folder / "music")


if __name__ == "__main__":
    typer.run(main)
