"""Demo corpus: synthetic music in seven styles, so that the pipeline can be tried without a download.

Scores on it do not show how well a model recognises real genres. Each style has the rhythm, timbre and harmony of its
genre. Tempo, key, levels, equaliser, noise and distortion vary from recording to recording.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import soundfile as sf
from joblib import cpu_count
from scipy import fft, signal
from tqdm import tqdm

from genre.errors import GenreError, UsageError
from genre.files import write_atomically
from genre.workers import pool

SR = 22050
CLIP_S = 10.0
CLIPS_PER_RECORDING = 3
N = round(SR * CLIP_S * CLIPS_PER_RECORDING)
STEPS = 16  # per bar in four-four time
#: Raised by hand whenever the same seed gives other samples, so that files of an older version are replaced.
VERSION = 1

# Difficulty. Without any of these, a random forest on the 97 features scores a test macro AUC of 1.00, and the best
# single feature 0.86. With these values, classical models score 0.90 to 0.99, about 0.95 on average, and no single
# feature over 0.80, so that a broken model is noticed.
BORROW = 0.06  # share of recordings that take their rhythm, timbre or harmony from another genre
MISSING = 0.22  # chance that a part is silent during a section of four bars
LEVEL_DB = 1.7  # standard deviation of a part's level
TILT_DB = 0.6  # standard deviation of the equaliser's slope, dB per octave
TEMPO_SPREAD = 0.06  # standard deviation of the tempo about its genre's range, in natural logarithm
NOISE_DB = (-75.0, -45.0)  # background noise against the music, dB
DRIVE_DB = (-8.0, 2.0)  # gain into the final saturation, dB
CUTOFF_HZ = (7500.0, 10500.0)  # upper end of the recording's band

# Rendering in several processes.
MIN_PER_PROCESS = 24  # recordings; a process takes as long to start as to synthesise twelve
BATCH = 4  # recordings, half a second of work

Samples = np.ndarray
Instrument = Callable[[float, int], Samples]


# Instruments: functions of a pitch in Hz and a length in samples that return samples within about -1..1.


def _seconds(n: int) -> Samples:
    return np.arange(n) / SR


def _envelope(n: int, attack_s: float, decay_s: float) -> Samples:
    """Return an envelope: linear attack, exponential decay and 10 ms of release, so that no note ends in a click."""
    t = _seconds(n)
    return np.minimum(1, t / attack_s) * np.exp(-t / decay_s) * np.minimum(1, (t[-1] - t) / 0.01)


@lru_cache(maxsize=64)  # vowels alone need fifteen; to design one takes as long as to filter a note
def _band_filter(low_hz: float, high_hz: float) -> Samples:
    return signal.butter(1, (low_hz, high_hz), "bandpass", fs=SR, output="sos")


@lru_cache(maxsize=64)
def _lowpass_filter(cutoff_hz: float) -> Samples:
    return signal.butter(2, cutoff_hz, fs=SR, output="sos")


def _band(y: Samples, low_hz: float, high_hz: float) -> Samples:
    return signal.sosfilt(_band_filter(low_hz, high_hz), y)


def _lowpass(y: Samples, cutoff_hz: float) -> Samples:
    return signal.sosfilt(_lowpass_filter(cutoff_hz), y)


def _sawtooth(phase: Samples) -> Samples:
    """Return a rising sawtooth, to the bit that of `scipy.signal`, which takes three times as long."""
    return np.mod(phase, 2 * np.pi) / np.pi - 1


def _saw(hz: float, n: int, vibrato: float = 0.0) -> Samples:
    t = _seconds(n)
    phase = 2 * np.pi * hz * t
    if vibrato:
        phase += vibrato * hz / 110 * np.sin(2 * np.pi * 5.3 * t)
    return _sawtooth(phase)


def _sub(hz: float, n: int) -> Samples:
    return np.tanh(1.5 * np.sin(2 * np.pi * hz * _seconds(n))) * _envelope(n, 0.01, 0.8)


def _round_bass(hz: float, n: int) -> Samples:
    return 1.6 * _lowpass(_saw(hz, n), 5 * hz) * _envelope(n, 0.01, 0.4)


def _pick_bass(hz: float, n: int) -> Samples:
    return _lowpass(_saw(hz, n), 1400) * _envelope(n, 0.004, 0.25)


def _saw_stab(hz: float, n: int) -> Samples:
    return 0.6 * (_saw(hz, n) + _saw(hz * 1.006, n)) * _envelope(n, 0.004, 0.16)


def _saw_pad(hz: float, n: int) -> Samples:
    return 0.6 * (_saw(hz * 0.996, n) + _saw(hz * 1.004, n)) * _envelope(n, 0.06, 2.0)


def _pluck(hz: float, n: int) -> Samples:
    t = _seconds(n)
    partials = [np.sin(2 * np.pi * k * hz * t) / k * np.exp(-k * 2 * t) for k in range(1, 7) if k * hz < SR / 2]
    return 0.8 * np.sum(partials, axis=0) * _envelope(n, 0.003, 0.5)


def _skank(hz: float, n: int) -> Samples:
    return 1.8 * _band(_saw(hz, n), 500, 3000) * _envelope(n, 0.003, 0.06)


def _electric_piano(hz: float, n: int) -> Samples:
    t = _seconds(n)
    tine = 0.15 * np.sin(2 * np.pi * 14 * hz * t) * np.exp(-t / 0.05) * (14 * hz < SR / 2)
    return (np.sin(2 * np.pi * hz * t + np.exp(-t / 0.3) * np.sin(2 * np.pi * hz * t)) + tine) * _envelope(
        n, 0.004, 0.9
    )


def _organ(hz: float, n: int) -> Samples:
    t = _seconds(n)
    return sum(np.sin(2 * np.pi * k * hz * t) / k for k in (1, 2, 4)) * _envelope(n, 0.01, 3.0) / 1.5


def _guitar(hz: float, n: int) -> Samples:
    return np.tanh(4 * _saw(hz, n, 0.2)) * _envelope(n, 0.004, 0.9)


#: Centre frequencies, Hz, of the first three formants of a, e, i, o, u (Peterson and Barney 1952, men, rounded).
VOWELS_HZ = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def _formants(source: Samples, vowel: int) -> Samples:
    centres = VOWELS_HZ[vowel % len(VOWELS_HZ)]
    return np.sum([_band(source, f * 0.92, f * 1.08) / (k + 1) for k, f in enumerate(centres)], axis=0)


def _voice(hz: float, n: int) -> Samples:
    return 4 * _formants(_saw(hz, n, 0.6), round(hz)) * _envelope(n, 0.06, 3.0)


def _choir(hz: float, n: int) -> Samples:
    return 2.5 * _formants(_saw(hz * 0.995, n, 0.5) + _saw(hz * 1.004, n, 0.3), round(hz)) * _envelope(n, 0.2, 6.0)


def _speech(hz: float, n: int) -> Samples:
    """Synthesise a spoken syllable: a low, falling pitch and breath through a vowel."""
    t = _seconds(n)
    breath = np.random.default_rng(round(hz)).normal(0, 0.5, n)
    glottis = _sawtooth(2 * np.pi * (90 + hz / 12) * t * (1 - 0.3 * t))
    return 4 * _formants(glottis + breath, round(hz)) * _envelope(n, 0.015, 0.15)


def _kick(rng: np.random.Generator, depth: float) -> Samples:
    """Synthesise a sine that falls to about 50 Hz; `depth` 0 is soft and short, 1 long and hard."""
    n = round(SR * 0.35)
    t = _seconds(n)
    fall = rng.uniform(20, 40)
    floor = rng.uniform(42, 62)
    sweep = floor * t + (60 + 120 * depth) / fall * (1 - np.exp(-fall * t))
    return np.sin(2 * np.pi * sweep) * _envelope(n, 0.002, 0.06 + 0.12 * depth)


def _snare(rng: np.random.Generator, depth: float) -> Samples:
    n = round(SR * 0.3)
    body = np.sin(2 * np.pi * rng.uniform(160, 230) * _seconds(n)) * _envelope(n, 0.001, 0.05)
    rattle = _band(rng.normal(0, 0.5, n), rng.uniform(700, 1800), 8000) * _envelope(n, 0.001, 0.04 + 0.1 * depth)
    return 0.6 * body + rattle


def _hat(rng: np.random.Generator, depth: float) -> Samples:
    n = round(SR * 0.25)
    return 0.8 * _band(rng.normal(0, 0.5, n), 6000, 10500) * _envelope(n, 0.001, 0.015 + 0.06 * depth * rng.random())


# Recipes. A pattern has sixteen steps: x is a hit, o a soft hit. If there are several patterns, a recording draws one.


@dataclass(frozen=True)
class Rhythm:
    """Tempo, swing (the share of a step by which every second step is late), and the patterns of each part."""

    bpm: tuple[float, float]
    swing: tuple[float, float]
    kick: tuple[str, ...]
    snare: tuple[str, ...]
    hat: tuple[str, ...]
    bass: tuple[str, ...]
    chords: tuple[str, ...]
    lead: tuple[str, ...]


@dataclass(frozen=True)
class Timbre:
    """Instruments, `cutoff_hz` of the chords, drum `kit` from soft (0) to hard (1), `reverb` 0 to 1, and levels."""

    bass: tuple[Instrument, ...]
    chords: tuple[Instrument, ...]
    lead: tuple[Instrument, ...]
    cutoff_hz: tuple[float, float]
    kit: tuple[float, float]
    reverb: tuple[float, float]
    levels_db: dict[str, float]


@dataclass(frozen=True)
class Harmony:
    """Scales in semitones, and chords and progressions (one degree per bar) in degrees of the scale."""

    scales: tuple[tuple[int, ...], ...]
    chords: tuple[tuple[int, ...], ...]
    progressions: tuple[tuple[int, ...], ...]


# Scales, semitones above the root.
MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
DORIAN = (0, 2, 3, 5, 7, 9, 10)
PHRYGIAN = (0, 1, 3, 5, 7, 8, 10)
MIXOLYDIAN = (0, 2, 4, 5, 7, 9, 10)

# Chords, degrees of the scale above their root.
TRIAD = (0, 2, 4)
SEVENTH = (0, 2, 4, 6)
NINTH = (0, 2, 6, 8)
FIFTH = (0, 4, 7)

# Patterns that several genres share.
FOUR = "x...x...x...x..."
BACKBEAT = "....x.......x..."
EIGHTHS = "x.o.x.o.x.o.x.o."
OFFBEATS = "..x...x...x...x."
HALVES = "x.......x......."
NONE = "................"

# fmt: off
GENRES: dict[str, tuple[Rhythm, Timbre, Harmony]] = {
    "Hip hop": (
        Rhythm(bpm=(80, 100), swing=(0.0, 0.25),
               kick=("x.....x...x.....", "x..x......x.....", "x......x.xx....."),
               snare=(BACKBEAT,), hat=(EIGHTHS, "x.ooxxo.x.ooxoxx"),
               bass=("x.....x...x.....", "x..x......x....."), chords=("x...............", HALVES),
               lead=("x.xxx.xxx.x.xxx.", "xxx.xx.xx.xxx.x.")),
        Timbre(bass=(_sub,), chords=(_electric_piano, _saw_pad, _pluck), lead=(_speech, _speech, _voice),
               cutoff_hz=(700, 2500), kit=(0.5, 0.9), reverb=(0.0, 0.15),
               levels_db={"drums": -2, "bass": -3, "chords": -14, "lead": -5}),
        Harmony((MINOR, PHRYGIAN), (TRIAD, SEVENTH), ((0, 0, 5, 4), (0, 5), (0, 0))),
    ),
    "Pop": (
        Rhythm(bpm=(100, 125), swing=(0.0, 0.05),
               kick=(FOUR, "x.......x.x....."), snare=(BACKBEAT,), hat=(EIGHTHS, OFFBEATS),
               bass=("x.x.x.x.x.x.x.x.", "x...x.x.x...x.x."), chords=(FOUR, "x..x..x.x..x..x.", EIGHTHS),
               lead=("x...x.x.x...x...", "x.x.x...x.x.x...", "x..x..x...x.x...")),
        Timbre(bass=(_pick_bass, _round_bass), chords=(_pluck, _pluck, _saw_pad), lead=(_pluck, _voice),
               cutoff_hz=(4000, 9000), kit=(0.3, 0.7), reverb=(0.1, 0.25),
               levels_db={"drums": -6, "bass": -9, "chords": -8, "lead": -5}),
        Harmony((MAJOR,), (TRIAD,), ((0, 4, 5, 3), (5, 3, 0, 4), (0, 5, 3, 4))),
    ),
    "Vocal": (
        Rhythm(bpm=(55, 85), swing=(0.0, 0.05), kick=(NONE,), snare=(NONE,), hat=(NONE,),
               bass=("x...............", HALVES), chords=("x...............", HALVES),
               lead=("x.....x.x.......", "x...x...x.......", "x.......x..x....")),
        Timbre(bass=(_choir, _organ), chords=(_choir, _voice), lead=(_voice, _choir),
               cutoff_hz=(3000, 8000), kit=(0.0, 0.3), reverb=(0.3, 0.6),
               levels_db={"drums": -15, "bass": -12, "chords": -8, "lead": -5}),
        Harmony((MAJOR, DORIAN), (TRIAD, FIFTH), ((0, 3, 4, 0), (0, 1, 4, 0), (5, 3, 4, 0))),
    ),
    "Rhythm and blues": (
        Rhythm(bpm=(60, 90), swing=(0.2, 0.5),
               kick=("x......x..x.....", "x.....o...xo...."), snare=("....o.......o...", "....x..o....x..o"),
               hat=("ooooxoooooooxooo", EIGHTHS), bass=("x......x..x.....", "x.....x..x......"),
               chords=("x.....x.........", "x..x......x.....", HALVES), lead=("x..xx...x...x.x.", "x.xx..x.....x...")),
        Timbre(bass=(_sub, _round_bass), chords=(_electric_piano,), lead=(_voice, _electric_piano),
               cutoff_hz=(2000, 6000), kit=(0.1, 0.5), reverb=(0.15, 0.35),
               levels_db={"drums": -9, "bass": -7, "chords": -7, "lead": -6}),
        Harmony((MAJOR, DORIAN), (SEVENTH, NINTH), ((1, 4, 0, 5), (0, 5, 1, 4), (3, 2, 1, 0))),
    ),
    "Reggae": (
        Rhythm(bpm=(70, 90), swing=(0.0, 0.3),
               kick=("........x.......", FOUR), snare=("........x.......", "....x...x...x..."),
               hat=(EIGHTHS, OFFBEATS), bass=("x..x.xx...x.x...", "..x.x.xx....x.x.", "x.....x.x.xx...."),
               chords=(OFFBEATS, "..xo..xo..xo..xo"), lead=("x.....x.........", "......x.x.x.....")),
        Timbre(bass=(_round_bass, _sub), chords=(_skank,), lead=(_organ, _voice),
               cutoff_hz=(2500, 6000), kit=(0.2, 0.6), reverb=(0.1, 0.4),
               levels_db={"drums": -7, "bass": -3, "chords": -7, "lead": -10}),
        Harmony((MINOR, MAJOR), (TRIAD,), ((0, 3), (0, 6), (0, 4, 3, 0))),
    ),
    "Rock": (
        Rhythm(bpm=(110, 150), swing=(0.0, 0.08),
               kick=("x.....x.x.......", "x.x.....x.x.x..."), snare=(BACKBEAT,), hat=(EIGHTHS, FOUR),
               bass=("x.x.x.x.x.x.x.x.", "x..x..x.x..x..x."),
               chords=("x.x.x.x.x.x.x.x.", "x..x..x.x..x..x.", HALVES),
               lead=("x...x.x.x...x...", "x.....x.x.xxx...")),
        Timbre(bass=(_pick_bass,), chords=(_guitar,), lead=(_guitar, _voice),
               cutoff_hz=(3000, 6000), kit=(0.5, 1.0), reverb=(0.05, 0.25),
               levels_db={"drums": -5, "bass": -9, "chords": -6, "lead": -8}),
        Harmony((MIXOLYDIAN, MINOR), (FIFTH,), ((0, 6, 3, 0), (0, 3, 4, 3), (0, 5, 6, 0))),
    ),
    "Techno": (
        Rhythm(bpm=(125, 138), swing=(0.0, 0.03),
               kick=(FOUR,), snare=(BACKBEAT, NONE), hat=(OFFBEATS, "x.xxx.xxx.xxx.xx"),
               bass=(OFFBEATS, ".xxx.xxx.xxx.xxx"), chords=("x..x..x..x..x.x.", "..x..x....x..x.."),
               lead=("x.x.xx.x.x.xx.x.", "x..x..x.x..x..x.")),
        Timbre(bass=(_pick_bass, _sub), chords=(_saw_stab,), lead=(_saw_stab,),
               cutoff_hz=(600, 5000), kit=(0.6, 1.0), reverb=(0.05, 0.4),
               levels_db={"drums": -2, "bass": -7, "chords": -9, "lead": -14}),
        Harmony((MINOR, PHRYGIAN), (TRIAD, FIFTH), ((0, 0, 0, 0), (0, 0, 1, 0))),
    ),
}
# fmt: on


# Rendering.


def _pick(rng: np.random.Generator, options: tuple) -> Any:
    return options[rng.integers(len(options))]


def _hits(pattern: str) -> list[tuple[int, float, int]]:
    """Return step, loudness and length in steps (until the next hit) of each note of a pattern."""
    steps = [step for step, symbol in enumerate(pattern) if symbol != "."]
    ends = [*steps, len(pattern)][1:]
    loudness = {"x": 1.0, "o": 0.4}
    return [(step, loudness[pattern[step]], end - step) for step, end in zip(steps, ends, strict=True)]


@dataclass(frozen=True)
class _Song:
    """Settings that all parts of one recording share; `audible` marks the four-bar sections in which a part plays."""

    rng: np.random.Generator
    step_n: float
    swing: float
    root: int
    scale: tuple[int, ...]
    chord: tuple[int, ...]
    progression: tuple[int, ...]
    audible: dict[str, np.ndarray]

    def midi(self, degree: int) -> int:
        """Return the MIDI number of a degree of the scale, counted from the root."""
        octave, index = divmod(degree, len(self.scale))
        return self.root + 12 * octave + self.scale[index]

    def play(self, part: str, patterns: tuple[str, ...], sound: Callable[[int, int], Samples]) -> Samples:
        """Render a part: ``sound(degree of the bar's chord, length)`` at each hit of a pattern drawn for each bar.

        Every second step is late by the swing. All steps vary by a few milliseconds and in loudness, as players do.
        """
        y = np.zeros(N, np.float32)
        for bar in range(int(np.ceil(N / (STEPS * self.step_n)))):
            if not self.audible[part][bar // 4]:
                continue
            degree = self.progression[bar % len(self.progression)]
            for step, velocity, steps in _hits(_pick(self.rng, patterns)):
                late = self.swing * (step % 2) + self.rng.normal(0, 0.004) * SR / self.step_n
                start = max(0, round((bar * STEPS + step + late) * self.step_n))
                note = sound(degree, round(min(steps, 12) * self.step_n * 0.95))[: max(0, N - start)]
                y[start : start + len(note)] += velocity * self.rng.uniform(0.8, 1) * note
        return y


def _drums(song: _Song, rhythm: Rhythm, timbre: Timbre) -> Samples:
    y = np.zeros(N, np.float32)
    depth = song.rng.uniform(*timbre.kit)
    for drum, patterns, loudness in ((_kick, rhythm.kick, 1), (_snare, rhythm.snare, 0.8), (_hat, rhythm.hat, 0.4)):
        pattern = _pick(song.rng, patterns)
        hit = drum(song.rng, depth)
        level = loudness * 10 ** (song.rng.normal(0, LEVEL_DB / 2) / 20)
        y += level * song.play("drums", (pattern,), lambda *_, hit=hit: hit)
    return y


def _parts(song: _Song, rhythm: Rhythm, timbre: Timbre) -> dict[str, Samples]:
    """Render drums, bass, chords and lead separately."""
    rng = song.rng
    octave = len(song.scale)

    def tuned(instruments: tuple[Instrument, ...]) -> Callable[[int, int], Samples]:
        instrument = _pick(rng, instruments)
        return cache(lambda degree, n: instrument(440 * 2 ** ((song.midi(degree) - 69) / 12), n))

    # the order of the draws from rng determines the samples
    bass = tuned(timbre.bass)
    chords = tuned(timbre.chords)
    lead = tuned(timbre.lead)
    bass_pattern = _pick(rng, rhythm.bass)
    chord_pattern = _pick(rng, rhythm.chords)

    def bass_line(degree: int, n: int) -> Samples:
        return bass(degree - 2 * octave + (int(rng.choice(song.chord)) if rng.random() < 0.3 else 0), n)

    def harmony(degree: int, n: int) -> Samples:
        return np.sum([chords(degree + d, n) for d in song.chord], axis=0)

    def melody(degree: int, n: int) -> Samples:
        return lead(degree + octave + int(rng.choice(song.chord)) + int(rng.integers(-1, 2)), n)

    cutoff_hz = np.exp(rng.uniform(*np.log(timbre.cutoff_hz)))
    return {
        "drums": _drums(song, rhythm, timbre),
        "bass": song.play("bass", (bass_pattern,), bass_line),
        "chords": _lowpass(song.play("chords", (chord_pattern,), harmony), cutoff_hz),
        "lead": song.play("lead", rhythm.lead, melody),
    }


def _mix(parts: dict[str, Samples], levels_db: dict[str, float], rng: np.random.Generator) -> Samples:
    """Add up the parts at their levels, each measured only where it sounds."""
    y = np.zeros(N, np.float32)
    for name, part in parts.items():
        level = 10 ** ((levels_db[name] + rng.normal(0, LEVEL_DB)) / 20)
        # No dot product here: the order in which BLAS adds up, and so the last digit, depends on its threads.
        rms = np.sqrt(np.square(part).sum() / max(1, np.count_nonzero(part)))
        y += part * np.float32(level / max(rms, 1e-6))
    return y


@cache
def _bin_hz() -> Samples:
    """Return the frequencies of a recording's spectrum, Hz, at least 60, below which the equaliser is level."""
    return np.maximum(fft.rfftfreq(N, 1 / SR), 60).astype(np.float32)


def _master(y: Samples, reverb: float, rng: np.random.Generator) -> Samples:
    """Apply room, equaliser, band limit, saturation, background noise and level, which differ between recordings."""
    hz = _bin_hz()
    echo = rng.standard_normal(SR, np.float32) * _envelope(SR, 0.001, rng.uniform(0.1, 0.35)).astype(np.float32)
    room = 1 - reverb + reverb / np.sqrt(np.square(echo).sum()) * fft.rfft(echo, N)
    tilt = (hz / 1000) ** (rng.normal(0, TILT_DB) / 6.02)
    band = 1 / np.sqrt(1 + (hz / rng.uniform(*CUTOFF_HZ)) ** 16)
    y = fft.irfft(fft.rfft(y) * room * tilt * band, N)
    y = np.tanh(y * (0.25 * 10 ** (rng.uniform(*DRIVE_DB) / 20) / y.std()))
    spectrum = np.exp(2j * np.pi * rng.random(len(hz[::10]), np.float32)) * (hz[::10] / 1000) ** -rng.uniform(0, 1)
    noise = np.tile(fft.irfft(spectrum, N // 10), 10)
    y += noise * (y.std() / noise.std() * 10 ** (rng.uniform(*NOISE_DB) / 20))
    return y * (rng.uniform(0.3, 0.95) / np.abs(y).max())


def _style(genre: str, rng: np.random.Generator) -> tuple[Rhythm, Timbre, Harmony]:
    """Return the recipe of a genre, in some recordings with one of its three traits from another genre."""
    traits: list[Any] = list(GENRES[genre])
    if rng.random() < BORROW:
        trait = rng.integers(len(traits))
        other_genre = _pick(rng, tuple(g for g in GENRES if g != genre))
        traits[trait] = GENRES[other_genre][trait]
    return traits[0], traits[1], traits[2]


def render_recording(genre: str, number: int, *, seed: int = 0) -> np.ndarray:
    """Synthesise one recording of the corpus.

    Parameters
    ----------
    genre : str
        One of `GENRES`.
    number : int
        Number of the recording within the genre, from 0.
    seed : int, default 0
        Seed of the corpus, not negative. The samples depend on these three arguments only.

    Returns
    -------
    np.ndarray [shape=(661500,), dtype=float32]
        Thirty seconds, mono, at 22,050 Hz, within -0.95..0.95.

    Raises
    ------
    UsageError
        If the genre is unknown, or a number is negative.
    """
    if genre not in GENRES or min(number, seed) < 0:
        raise UsageError(
            f"no demo recording {number} of {genre!r} with seed {seed}; the genres are {', '.join(GENRES)}, "
            "and numbers and seeds must not be negative"
        )
    rng = np.random.default_rng([seed, list(GENRES).index(genre), number])
    rhythm, timbre, harmony = _style(genre, rng)
    bpm = rng.uniform(*rhythm.bpm) * np.exp(rng.normal(0, TEMPO_SPREAD))
    audible = {part: rng.random(16) >= MISSING for part in timbre.levels_db}
    audible["chords"] |= ~audible["lead"]  # so that no section is empty
    song = _Song(
        rng=rng,
        step_n=SR * 60 / bpm / 4,
        swing=rng.uniform(*rhythm.swing),
        root=int(rng.integers(52, 64)),
        scale=_pick(rng, harmony.scales),
        chord=_pick(rng, harmony.chords),
        progression=_pick(rng, harmony.progressions),
        audible=audible,
    )
    y = _mix(_parts(song, rhythm, timbre), timbre.levels_db, rng)
    return _master(y, rng.uniform(*timbre.reverb), rng)


# The corpus on disk.


def _label(seed: int) -> str:
    """Return the comment inside each file, by which files of another seed or version are recognised."""
    return f"synthetic demo corpus of the project genre, version {VERSION}, seed {seed}"


def _is_done(path: Path, seed: int) -> bool:
    """Return whether the file exists, is of this seed and version, and can be read up to its last sample."""
    if not path.exists():
        return False
    try:
        with sf.SoundFile(path) as f:
            return f.comment == _label(seed) and f.frames == N and f.seek(N - 1) == N - 1 and len(f.read(1)) == 1
    except sf.LibsndfileError:
        return False


def recording_path(directory: Path, genre: str, number: int) -> Path:
    """Return the path of a recording's file, from the folder of the data set."""
    return directory / "audio" / genre / f"{number:02d}.flac"


def write_recording(directory: Path, genre: str, number: int, seed: int) -> None:
    """Synthesise a recording and write its file, completely or not at all.

    Parameters
    ----------
    directory : Path
        Folder of the data set.
    genre, number, seed
        As for `render_recording`.
    """

    def write(temporary: Path) -> None:
        with sf.SoundFile(temporary, "w", SR, 1, "PCM_16", format="FLAC") as f:
            f.comment = _label(seed)
            f.write(render_recording(genre, number, seed=seed))

    # libsndfile waits until a FLAC file is on the disk, and `_is_done` finds what a power failure leaves of one
    write_atomically(recording_path(directory, genre, number), write, sync=False)


@dataclass(frozen=True)
class _DemoWork:
    """Synthesis of recordings, as `genre.workers.pool.Work`."""

    directory: Path
    seed: int
    name: ClassVar[str] = "the demo corpus"
    python_args: ClassVar[tuple[str, ...]] = ("-m", "genre.datasets.demo_worker")

    @property
    def initial_message(self) -> tuple[Path, int]:
        return self.directory, self.seed

    def on_crash(self, row: pd.DataFrame, reason: str) -> None:
        recording = row.iloc[0]
        raise GenreError(f"the process that synthesised {recording['genre']}/{recording['number']:02d} {reason}")


def _write_recordings(recordings: list[tuple[str, int]], directory: Path, seed: int) -> None:
    """Write recordings, with a process per core if there are enough of them."""
    n_jobs = min(cpu_count(), len(recordings) // MIN_PER_PROCESS)
    with tqdm(total=len(recordings), desc="demo corpus", unit="recording", disable=None if recordings else True) as bar:
        if n_jobs < 2:
            for genre, number in recordings:
                write_recording(directory, genre, number, seed)
                bar.update()
            return
        table = pd.DataFrame(recordings, columns=["genre", "number"])
        batches = (table.iloc[start : start + BATCH] for start in range(0, len(table), BATCH))
        for n, _ in pool.run_local(batches, _DemoWork(directory, seed), n_jobs):
            bar.update(n)


def load_clips(source: None, directory: Path, *, recordings_per_genre: int = 20, seed: int = 0) -> pd.DataFrame:
    """Synthesise the demo corpus and list its clips.

    There is one FLAC file per recording, 30 s, mono, 22,050 Hz, 16 bits: ``<directory>/audio/<genre>/<nn>.flac``. A
    complete file of the same seed and version is kept, so that a killed run resumes where it left off. Any other file
    is replaced.

    Parameters
    ----------
    source : None
        The corpus has no source.
    directory : Path
        Folder of the data set; created if missing.
    recordings_per_genre : int, default 20
        At least 1. The samples of a recording do not depend on this number.
    seed : int, default 0
        Not negative; the same seed gives the same samples.

    Returns
    -------
    pd.DataFrame
        The clips table: three clips of ten seconds per recording, all "pending".

    Raises
    ------
    UsageError
        If there is a source, or a number is out of range.
    """
    if source is not None:
        raise UsageError(f"the demo corpus is synthesised and takes no source, got {str(source)!r}; leave it out")
    if recordings_per_genre < 1 or seed < 0:
        raise UsageError(
            f"got recordings_per_genre={recordings_per_genre} and seed={seed}; the first must be at least 1, "
            "the second at least 0"
        )
    directory = directory.resolve()
    recordings = [(genre, number) for genre in GENRES for number in range(recordings_per_genre)]
    paths = {recording: recording_path(directory, *recording) for recording in recordings}
    missing = [recording for recording, path in paths.items() if not _is_done(path, seed)]
    _write_recordings(missing, directory, seed)
    return _clips_table(paths, seed)


def _clips_table(paths: dict[tuple[str, int], Path], seed: int) -> pd.DataFrame:
    rows = [
        {
            "clip_id": f"{genre}/{n:02d}@{start_s:.0f}",
            "path": str(path),
            "genre": genre,
            "recording": f"{genre}/{n:02d}",
            "dataset": "demo",
            "start_s": start_s,
            "end_s": start_s + CLIP_S,
            "split": None,
            "stamp": f"{path.stat().st_size}-{seed}-{VERSION}",
            "status": "pending",
            "reason": "",
        }
        for (genre, n), path in paths.items()
        for start_s in CLIP_S * np.arange(CLIPS_PER_RECORDING)
    ]
    table = pd.DataFrame(rows)
    table["genre"] = pd.Categorical(table["genre"], categories=list(GENRES))
    return table
