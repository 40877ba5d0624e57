"""Audio files and bytes to clips."""

from genre.audio.clips import prepare_clip
from genre.audio.decoding import decode_audio, decode_windows, read_duration_s

__all__ = ["decode_audio", "decode_windows", "prepare_clip", "read_duration_s"]
