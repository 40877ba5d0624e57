"""Audio files below a folder."""

from pathlib import Path

#: Suffixes of the formats that libsndfile or PyAV's FFmpeg decodes.
AUDIO_SUFFIXES = {
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".oga",
    ".opus",
    ".m4a",
    ".aac",
    ".mp4",
    ".au",
    ".aif",
    ".aiff",
    ".wma",
    ".webm",
}


def find_audio_files(folder: Path) -> list[Path]:
    """List the files below a folder, to any depth, that are audio by their suffix, in order of their paths.

    Hidden files, and folders named like files, are left out. Links to files are followed, links to folders are not.
    """
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in AUDIO_SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
