"""Suffixes of audio files: those of the formats that the installed libraries read, and others."""

from functools import cache

import soundfile

from genre.audio.readers import CONTAINERS

#: FFmpeg's muxers under names that are no demuxer's, which know more suffixes of bare AAC, MP4 and Ogg.
_MUXERS = "adts,ipod,oga,opus,spx"

#: Suffixes of the same formats that no library can be asked for: FFmpeg's demuxers ``dsf`` and ``iff`` (DSDIFF) name
#: none, and freedesktop.org's shared-mime-info has more of AMR, Musepack, WAV, AU, MPEG audio, MP4, WebM and Ogg.
_FURTHER = {".dsf", ".dff", ".awb", ".mpp", ".mp+", ".wave", ".snd", ".mpga", ".mp1", ".m4r", ".3ga", ".weba", ".ogx"}

#: What the libraries name that is no file of music: images and subtitles in the containers of MP4 and Matroska, lists
#: of other files (ISM, APE Link), TypeScript's suffix, files of data, and samples without a header.
_NO_MUSIC = {".heic", ".heif", ".avif", ".mj2", ".mks", ".ism", ".apl", ".ts", ".mat4", ".mat5", ".htk", ".raw"}
_NO_MUSIC |= {".mpc2k", ".wavex"}  # names of formats, not suffixes

#: What messages name of the suffixes, without their dots.
COMMON_SUFFIXES = ("mp3", "flac", "m4a", "ogg", "opus", "wav", "aiff", "aac", "wma")

#: Audio that is not decoded. Copy protection: Apple's FairPlay, Audible. Codecs without a decoder here, or one not
#: tried: OptimFROG, Shorten, ATRAC, TwinVQ, TrueHD and MLP, DTS-HD, QCELP, LOAS, multitrack Ogg. Scores
#: and programs instead of sound: MIDI, trackers, chips (shared-mime-info, types ``audio/*``). Stand-ins: a CD's tracks
#: under Windows, files that iCloud has not downloaded.
UNDECODED_SUFFIXES = frozenset(
    {
        *(".m4p", ".aa", ".aax", ".aaxc"),
        *(".ofr", ".ofs", ".shn", ".oma", ".aa3", ".at3", ".at9", ".vqf", ".thd", ".mlp", ".dtshd", ".qcp"),
        *(".loas", ".xhe", ".mogg"),
        *(".mid", ".midi", ".kar", ".rmi", ".mxmf", ".xmf", ".imy", ".mod", ".s3m", ".xm", ".it", ".stm", ".mtm"),
        *(".669", ".med", ".ult", ".sid", ".psid", ".psf", ".minipsf", ".spc", ".nsf", ".gbs", ".vgm", ".vgz", ".ym"),
        *(".cda", ".icloud"),
    }
)


@cache
def audio_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats that soundfile or PyAV reads, in lower case, with their dot."""
    import av

    # with its muxer, which knows the suffixes of formats that FFmpeg recognises by their content
    formats = [av.ContainerFormat(name) for name in f"{CONTAINERS},{_MUXERS}".split(",")]
    names = {name.lower() for name in soundfile.available_formats()}.union(*(f.extensions for f in formats))
    return frozenset(f".{name}" for name in names) - _NO_MUSIC | _FURTHER


def list_accepted() -> str:
    """Return the commonest of `audio_suffixes` without their dots, and the number of the others, for a message."""
    accepted = audio_suffixes()
    named = [suffix for suffix in COMMON_SUFFIXES if f".{suffix}" in accepted]
    return f"{', '.join(named)} and {len(accepted) - len(named)} more"


def name_suffix(name: str) -> str:
    """Return the suffix of a file's name, in lower case, with its dot; empty if there is none."""
    position = name.rfind(".")
    return name[position:].lower() if 0 < position < len(name) - 1 else ""
