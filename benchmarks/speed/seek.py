"""Six ten-second windows of a long track: seeking to each, against decoding all that lies before it.

Prints, per format, the processor time of both and their ratio.

    python -m benchmarks.speed.seek
    python -m benchmarks.speed.seek --minutes 3    # seconds
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
import soundfile as sf

from benchmarks._shared import measure
from benchmarks._shared.music import SR, make_chord
from genre.audio import decoding
from genre.audio.clips import window_starts
from genre.config import AudioConfig

#: Codec and sampling rate of the formats that soundfile does not write, by suffix.
ENCODED = {"m4a": ("aac", 44_100), "opus": ("libopus", 48_000), "webm": ("libopus", 48_000)}


def write_track(path: Path, minutes: int) -> None:
    """Write a stereo track of some length, a minute at a time."""
    minute = make_chord(60, channels=2).astype(np.float32)
    suffix = path.suffix[1:]
    if suffix not in ENCODED:
        with sf.SoundFile(path, "w", SR, 2) as file:
            for start in range(0, minutes * 60 * SR, SR):  # libsndfile's Vorbis encoder overflows on a long block
                file.write(minute[start % len(minute) :][:SR])
        return
    codec, rate = ENCODED[suffix]
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        for n in range(minutes):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(minute.T), format="fltp", layout="stereo")
            frame.sample_rate = SR
            frame.pts = n * len(minute)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def decode_by_seeking(path: Path, starts: list[float]) -> int:
    """Decode the windows alone; return their number."""
    return len([decoding.decode_audio(path, sr=SR, start_s=start, duration_s=10) for start in starts])


def decode_from_start(path: Path, starts: list[float]) -> int:
    """Decode from the start of the track to the end of each window; return their number."""
    return len([decoding.decode_audio(path, sr=SR, duration_s=start + 10) for start in starts])


def main(minutes: int = 20, repeats: int = 3) -> None:
    """Measure and print."""
    starts = window_starts(60.0 * minutes, AudioConfig(), max_windows=6)
    print(f"{measure.describe_cpu()}; {minutes} minutes, windows at {', '.join(f'{s:g}' for s in starts)} s")
    with TemporaryDirectory() as folder:
        for suffix in ("wav", "flac", "mp3", "ogg", *ENCODED):
            path = Path(folder) / f"long.{suffix}"
            write_track(path, minutes)
            workloads = {
                "decode to the window": lambda path=path: decode_from_start(path, starts),
                "seek": lambda path=path: decode_by_seeking(path, starts),
            }
            seconds = measure.time_alternately(workloads, repeats)
            table = measure.tabulate_rates(seconds, "decode to the window", "windows")
            print(f"\n{suffix}\n{table.to_string()}", flush=True)


if __name__ == "__main__":
    measure.run_on_one_core(main)
