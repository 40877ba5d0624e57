"""Frames that PyAV decodes from an open file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from genre.audio.readers.limits import check_channels
from genre.audio.scans.content import Content, Span, find_size

#: FFmpeg's demuxers that may be used. Playlists (hls, dash, concat) are left out: they open the files and URLs they
#: name, and the bytes may come from an untrusted client.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,aac,asf,ogg,mp3,flac,wav,w64,aiff,au,caf,avi,flv,mpegts,amr,ape,wv"
    ",tta,tak,mpc,mpc8,dsf,iff,ac3,eac3,dts,rm"
)


@contextmanager
def open_stream(file: BinaryIO) -> Iterator[Any]:
    """Open the audio stream that a player takes: the first that is marked as default, else the first.

    Parameters
    ----------
    file : file
        Open, binary, able to seek.

    Yields
    ------
    av.AudioStream

    Raises
    ------
    ValueError
        If there is no audio stream, or none whose codec is known.
    """
    import av

    file.seek(0)
    with av.open(file, metadata_errors="ignore", options={"format_whitelist": CONTAINERS}) as container:
        streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
        if not container.streams.audio:
            raise ValueError("no audio stream")
        if not streams:
            raise ValueError("codec unknown to FFmpeg")
        default = av.stream.Disposition.default
        yield next((stream for stream in streams if stream.disposition & default), streams[0])


def decode_all(file: BinaryIO, content: Content) -> Iterator[Any]:
    """Decode the frames of all files that are in one, in their order.

    Parameters
    ----------
    file, content
        As in `genre.audio.readers.by_soundfile.decode_by_soundfile`.

    Yields
    ------
    av.AudioFrame
    """
    for start, end in content.spans or ((0, find_size(file)),):
        with open_stream(Span(file, start, end) if content.spans else file) as stream:  # type: ignore[arg-type]
            check_channels(stream.channels)
            yield from decode_frames(stream)


def decode_frames(stream: Any) -> Iterator[Any]:
    """Decode frames; damaged packets are skipped, as players do, unless they are the majority.

    Parameters
    ----------
    stream : av.AudioStream
        Read from where its container stands.

    Yields
    ------
    av.AudioFrame

    Raises
    ------
    ValueError
        At the end, if most packets were damaged.
    """
    import av

    n_good = n_damaged = 0
    for packet in stream.container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:  # any of them: decoders report damage in many ways, some as a bare -1
            n_damaged += 1
            continue
        n_good += len(frames)
        yield from frames
    if n_damaged >= n_good:
        raise ValueError(f"{n_damaged} damaged packets, {n_good} good ones")
