"""Audio files below a folder, and what is left out."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from genre.audio import decoding
from genre.audio.left_out import LeftOut
from genre.audio.suffixes import UNDECODED_SUFFIXES, audio_suffixes, name_suffix
from genre.audio.trash import holds_versions, is_trash
from genre.errors import AudioError, GenreError

#: First bytes of AppleSingle and AppleDouble files (RFC 1740): what macOS writes beside a file on foreign disks, under
#: its name after ``._``.
_APPLE_MAGIC = (b"\0\5\x16\0", b"\0\5\x16\7")

#: Start of the name of a file in the trash of Android 11 and later (MediaStore's ``.trashed-TIME-NAME``).
_ANDROID_TRASH = ".trashed-"

#: What the system reports of a link whose target is missing, forbidden, or the link itself.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)

_TRASH = "files in trash, old versions and the like"


def find_audio_files(folder: Path, left_out: LeftOut | None = None, *, follow_links: bool = False) -> list[Path]:
    """List the files below a folder, to any depth, that are audio by their suffix, in order of their paths.

    Files whose names begin with a dot are judged by their content. Links to files are followed; links to folders are
    not, except with `follow_links`. What is in a trash or among old versions is left out.

    Parameters
    ----------
    folder : Path
        The folder, or a link to it.
    left_out : LeftOut, optional
        Receives what is left out: audio that is not decoded or lies in a trash, hidden files that are no audio, folders
        without permission, and links. Files of other kinds, such as images and playlists, are not counted.
    follow_links : bool
        Whether links in the folder itself to folders outside it are followed.

    Raises
    ------
    GenreError
        If a folder cannot be listed for another reason than a lack of permission.
    """
    left_out = LeftOut() if left_out is None else left_out
    entries = _iter_entries(folder, left_out, follow_links)
    return [Path(entry) for entry in entries if _is_music(entry, left_out)]


def list_subfolders(folder: Path) -> list[str]:
    """List the names of the folders in a folder, and of links to folders, without hidden ones and trash.

    Raises
    ------
    GenreError
        If it cannot be listed for another reason than a lack of permission.
    """
    names = sorted(entry.name for entry in _list_entries(str(folder), LeftOut()) if _is_folder(entry.path))
    return [name for name in names if not (name.startswith(".") or is_trash(name) or holds_versions(name))]


def _iter_entries(folder: Path, left_out: LeftOut, follow_links: bool) -> Iterator[os.DirEntry[str]]:
    """Iterate over what is no folder and in no trash below a folder, in order of the paths."""
    stack = _list_entries(str(folder), left_out)
    if follow_links:
        linked = {entry.path for entry in stack if entry.is_symlink() and _leads_elsewhere(entry.path, folder)}
    else:
        linked = set()
    # each folder's entries take its place on the stack, last name first, so that the paths come in order
    while stack:
        entry = stack.pop()
        if not (entry.is_dir(follow_symlinks=False) or entry.path in linked):
            yield entry
        elif _is_searched(entry, left_out):
            stack += _list_entries(entry.path, left_out)


def _list_entries(folder: str, left_out: LeftOut) -> list[os.DirEntry[str]]:
    """List the entries of a folder, last name first; none if it may not be listed or has just been removed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except PermissionError:
        left_out.add("folders without permission", folder)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise _away(folder, error) from error
        left_out.add("folders with too long a path", folder)
    return []


def _away(path: str, error: OSError) -> GenreError:
    """Return the error for a path that the system reports as neither missing nor forbidden."""
    return GenreError(f"cannot list {path} ({error.strerror}); check the disk or the network, then run the same again")


def _leads_elsewhere(link: str, folder: Path) -> bool:
    """Return whether a link leads to a folder that is neither in `folder` nor around it."""
    target = Path(os.path.realpath(link))
    home = Path(os.path.realpath(folder))
    return _is_folder(link) and not target.is_relative_to(home) and not home.is_relative_to(target)


def _is_folder(path: str) -> bool:
    """Return whether a path or link leads to a folder; unlike `Path.is_dir`, False where that is forbidden to know."""
    return os.path.isdir(path)  # noqa: PTH112


def _is_searched(folder: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Return whether a folder may hold music; count the audio in it if not."""
    if holds_versions(folder.path):
        left_out.add("folders of snapshots or versions, not searched", folder.path, folder.name)
        return False
    if not is_trash(folder.path):
        return True
    for parent, _, files in os.walk(folder.path):
        for file in files:
            if name_suffix(file) in audio_suffixes():
                left_out.add(_TRASH, Path(parent, file), folder.name)
    return False


def _is_music(entry: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Return whether an entry that is no folder is a file of audio, or a link to one; count it if it is left out."""
    suffix = name_suffix(entry.name)
    if entry.is_symlink():
        is_file = _leads_to_file(entry, left_out)
    elif suffix in audio_suffixes() or suffix in UNDECODED_SUFFIXES:
        is_file = entry.is_file(follow_symlinks=False)
    else:
        return False
    if suffix in audio_suffixes():
        return is_file and (entry.name[0] != "." or _is_hidden_music(entry, left_out))
    if is_file and suffix in UNDECODED_SUFFIXES and not entry.name.startswith("._"):
        left_out.add("files of types that are not decoded", entry.path, suffix)
    return False


def _leads_to_file(link: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Return whether a link leads to a file; count it if it leads to a folder or, unless it is hidden, nowhere."""
    try:
        mode = link.stat().st_mode
    except OSError as error:
        if error.errno not in _NOWHERE:
            raise _away(link.path, error) from error
        if not link.name.startswith("."):
            left_out.add("links to nothing", link.path)
        return False
    if stat.S_ISDIR(mode):
        left_out.add("links to folders, not followed", link.path)
    return stat.S_ISREG(mode)


def _is_hidden_music(entry: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Return whether a file whose name begins with a dot holds audio; count it if not, or if it was deleted."""
    if entry.name.startswith(_ANDROID_TRASH):
        left_out.add(_TRASH, entry.path, _ANDROID_TRASH)
        return False
    try:
        with Path(entry).open("rb") as file:
            is_apple = file.read(4) in _APPLE_MAGIC
        if not is_apple and decoding.read_duration_s(entry.path):
            return True
    except OSError:
        return True  # it is listed: whoever decodes it reports the error of the system
    except AudioError:
        pass
    left_out.add("files with a leading dot and no audio", entry.path, name_suffix(entry.name))
    return False
