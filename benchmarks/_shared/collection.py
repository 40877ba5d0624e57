"""A folder of synthetic music that its owner changes from week to week."""

import hashlib
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import soundfile as sf

#: Genres, each with its tempo in beats per second and its pitch in Hz, until the first change of style.
GENRES = {"folk": (1.5, 196.0), "rock": (2.5, 294.0), "techno": (4.0, 440.0)}

#: Formats, in turn; the lossless ones first, so that a file that is encoded again may become a lossy one.
SUFFIXES = ("wav", "flac", "mp3", "ogg")

#: Sampling rate of the files, Hz.
SR = 22_050

#: Length of each track, seconds: one clip.
TRACK_S = 10

#: Standard deviation of the noise.
NOISE = 0.01

#: Amplitude of the steady tone of a style, where the lowest harmonic of a note has 1.
DRONE_LEVEL = 0.2

#: Pitch of the steady tone that a style is known by, Hz: of the first, which has none, and of the further ones in turn.
DRONES_HZ = (0.0, 5200.0, 7400.0, 3700.0)

#: Steps of the scale that melodies are made of, semitones.
SCALE = np.array([0, 2, 4, 7, 9, 12])

#: Tracks of an artist at most.
TRACKS_PER_ARTIST = 4

#: Share of the tracks that vanish at a time: less than the share that a build may lose, see `genre.store.outcomes`.
VANISHING_SHARE = 0.1


class Collection:
    """Music in a folder per genre and artist, changed at random.

    Parameters
    ----------
    folder : Path
        Folder that receives ``music`` and, of tracks that have vanished, ``elsewhere``.
    seed : int
        Seed of the music and of all changes.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.root = folder / "music"
        self._elsewhere = folder / "elsewhere"
        self._rng = np.random.default_rng(seed)
        self._numbers = count()
        self._style = 0
        #: Changes by name.
        self.changes: dict[str, Callable[[], None]] = {
            "new tracks": lambda: self.add_tracks(1),
            "new style": self.change_style,
            "files renamed": self.rename_files,
            "artist renamed": self.rename_artist,
            "files encoded anew": self.encode_anew,
            "tracks vanish": self.take_away,
            "tracks are back": self.bring_back,
            "a broken file": self.add_broken_file,
            "an empty file": self.add_empty_file,
            "bad files removed": self.remove_bad_files,
            "another genre": self.relabel,
        }

    def add_tracks(self, n_per_genre: int) -> None:
        """Add new tracks to each genre."""
        for genre in GENRES:
            for _ in range(n_per_genre):
                n = self._new_number()
                artist = f"{genre} artist {n // (len(GENRES) * TRACKS_PER_ARTIST)}"
                self._write(
                    self.root / genre / artist / f"track {n}.{SUFFIXES[n % len(SUFFIXES)]}", self._compose(genre)
                )

    def change_style(self) -> None:
        """Start another style, in which each genre has the tempo and pitch of another one, and add tracks of it.

        A model that knows the earlier styles only takes the new tracks for other genres, so that a new one is better.
        """
        self._style += 1
        self.add_tracks(5)

    def rename_files(self) -> None:
        """Give two tracks other names."""
        for path in self._draw(2):
            path.rename(path.with_name(f"{path.stem} {self._new_number()}{path.suffix}"))

    def rename_artist(self) -> None:
        """Give an artist's folder another name."""
        for path in self._draw(1):
            path.parent.rename(path.parent.with_name(f"{path.parent.name} {self._new_number()}"))

    def encode_anew(self) -> None:
        """Replace two tracks by the same music in another format."""
        for path in self._draw(2):
            y, sr = sf.read(path)
            suffixes = [suffix for suffix in SUFFIXES if suffix != path.suffix[1:]]
            sf.write(path.with_suffix(f".{self._rng.choice(suffixes)}"), y, sr)
            path.unlink()

    def take_away(self) -> None:
        """Move some of the tracks elsewhere."""
        for path in self._draw(round(VANISHING_SHARE * len(self._tracks()))):
            self._move(path, self._elsewhere / path.relative_to(self.root))

    def bring_back(self) -> None:
        """Move the tracks that had vanished back, under their former names."""
        for path in sorted(p for p in self._elsewhere.rglob("*") if p.is_file()):
            self._move(path, self.root / path.relative_to(self._elsewhere))

    def add_broken_file(self) -> None:
        """Add a file that ends in its first kilobyte, where a copy was interrupted."""
        for path in self._draw(1):
            path.with_name(f"bad {path.name}").write_bytes(path.read_bytes()[:1000])

    def add_empty_file(self) -> None:
        """Add a file without content."""
        for path in self._draw(1):
            path.with_name(f"bad {path.name}").touch()

    def remove_bad_files(self) -> None:
        """Remove the broken and the empty files."""
        for path in self.root.rglob("bad *"):
            path.unlink()

    def relabel(self) -> None:
        """Move a track into the folder of another genre."""
        for path in self._draw(1):
            genre, *rest = path.relative_to(self.root).parts
            other = self._rng.choice([name for name in GENRES if name != genre])
            self._move(path, self.root.joinpath(other, *rest))

    def example_tracks(self) -> list[Path]:
        """Return the first track of each genre."""
        return [min(path for path in self._tracks() if path.is_relative_to(self.root / genre)) for genre in GENRES]

    def digest_files(self) -> dict[str, str]:
        """Return the SHA-256 of every file's content by its path."""
        files = (path for path in self.root.rglob("*") if path.is_file())
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def _new_number(self) -> int:
        """Return a number that no file or folder has in its name yet."""
        return next(self._numbers)

    def _tracks(self) -> list[Path]:
        """Return the tracks that are neither broken nor empty, in order."""
        files = (path for path in self.root.rglob("*.*") if path.is_file())
        return sorted(path for path in files if not path.name.startswith("bad "))

    def _draw(self, n: int) -> list[Path]:
        """Return n tracks at random."""
        return [Path(path) for path in self._rng.choice([str(path) for path in self._tracks()], n, replace=False)]

    def _move(self, path: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)

    def _write(self, path: Path, y: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, y, SR)

    def _compose(self, genre: str) -> np.ndarray:
        """Return a random melody over a beat, as tracks of a genre sound in the present style."""
        names = list(GENRES)
        beats_per_s, pitch_hz = GENRES[names[(names.index(genre) + self._style) % len(names)]]
        t = np.arange(TRACK_S * SR) / SR
        beat = (t * beats_per_s * self._rng.uniform(0.9, 1.1)).astype(int)
        notes = self._rng.choice(SCALE, beat[-1] + 1) + self._rng.uniform(-4, 4)
        phase = 2 * np.pi * np.cumsum(pitch_hz * 2 ** (notes[beat] / 12)) / SR
        y = sum(np.sin(k * phase) / k for k in range(1, 5)) * np.exp(-3 * (t * beats_per_s % 1))
        y += DRONE_LEVEL * np.sin(2 * np.pi * DRONES_HZ[self._style % len(DRONES_HZ)] * t)
        noise = self._rng.normal(0, NOISE, t.size)
        return np.asarray(0.2 * y + noise, np.float32).clip(-1, 1)
