"""Six ten-second windows of a long track, decoded where they are, against decoding all that lies before each.

Prints, per format, processor time of both and their ratio: how much of the file a window costs.

    python benchmarks/seek.py
    python benchmarks/seek.py --minutes 3    # seconds
"""

import measure

measure.one_core()

from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import av  # noqa: E402
import numpy as np  # noqa: E402
import soundfile as sf  # noqa: E402
import typer  # noqa: E402
from bad_files import SR, music  # noqa: E402

from genre.audio import decoding  # noqa: E402
from genre.audio.clips import window_starts  # noqa: E402
from genre.config import AudioConfig  # noqa: E402

#: Suffix, codec, and sampling rate of what soundfile does not write.
ENCODED = {"m4a": ("aac", 44_100), "opus": ("libopus", 48_000), "webm": ("libopus", 48_000)}


def write(path: Path, minutes: int) -> None:
    """A track of that length, a minute at a time."""
    minute, suffix = music(60, channels=2).astype(np.float32), path.suffix[1:]
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
            frame.sample_rate, frame.pts = SR, n * len(minute)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def main(minutes: int = 20, repeats: int = 3) -> None:
    """Measure and print."""
    starts = window_starts(60.0 * minutes, AudioConfig(), max_windows=6)
    print(f"{measure.cpu()}; {minutes} minutes, windows at {', '.join(f'{s:g}' for s in starts)} s")
    with TemporaryDirectory() as folder:
        for suffix in ("wav", "flac", "mp3", "ogg", *ENCODED):
            path = Path(folder) / f"long.{suffix}"
            write(path, minutes)

            def windows(path: Path = path) -> int:
                return len([decoding.decode_audio(path, sr=SR, start_s=start, duration_s=10) for start in starts])

            def all_before(path: Path = path) -> int:
                return len([decoding.decode_audio(path, sr=SR, duration_s=start + 10) for start in starts])

            ways = {"decode to the window": all_before, "seek": windows}
            seconds = measure.alternately(ways, repeats)
            print(f"\n{suffix}\n{measure.compared(seconds, 'decode to the window', 'windows').to_string()}", flush=True)


if __name__ == "__main__":
    typer.run(main)
