"""Reading of audio files by soundfile and by PyAV, and their limits."""

from genre.audio.readers.frames import CONTAINERS

__all__ = ["CONTAINERS"]
