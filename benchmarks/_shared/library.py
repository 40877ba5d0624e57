"""A music library of many files, and the flow ``tag`` on it."""

import os
import sqlite3
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

import soundfile as sf

from genre.audio.listing import find_audio_files
from genre.workspace import PROJECT_DIR

#: Length of each file.
SECONDS = 10

#: Formats, in turn.
SUFFIXES = ("mp3", "flac", "wav", "ogg")


def write_library(source: Path, n: int, folder: Path) -> None:
    """Write n files of ten seconds, each another piece of the originals: a second later in each further round."""
    originals = find_audio_files(source)
    for k, path in enumerate(islice(cycle(originals), n)):
        with sf.SoundFile(path) as file:
            sr = file.samplerate
            start = (k // len(originals)) * sr % max(file.frames - SECONDS * sr, 1)
            file.seek(start)
            y = file.read(SECONDS * sr, dtype="float32")
        (folder / str(k % 50)).mkdir(parents=True, exist_ok=True)
        sf.write(folder / str(k % 50) / f"{k}.{SUFFIXES[k % len(SUFFIXES)]}", y, sr)


def start_tag_flow(home: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the flow ``tag`` as a user does, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows.tag", *arguments],
        cwd=PROJECT_DIR,
        env=os.environ | {"GENRE_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_output(process: subprocess.Popen[str]) -> str:
    """Wait for a process to succeed and return its output."""
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def count_predictions(home: Path) -> int:
    """Return the number of files predicted so far."""
    path = home / "library" / "answers.sqlite"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(path) as db:
            return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])
    except sqlite3.OperationalError:  # the table is being created
        return 0
