"""Audio files below a folder, and what is left out."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from genre.audio import decoding
from genre.audio.left_out import LeftOut
from genre.audio.suffixes import UNDECODED_SUFFIXES, audio_suffixes, name_suffix
from genre.errors import AudioError, GenreError

#: Folders, in lower case, whose audio is no music: deleted, an old version, or data about other files.
_NO_MUSIC = frozenset(
    {
        # trash: of freedesktop.org's specification (also `_TRASH_PREFIXES`), macOS, AppleShare, Windows, e2fsck
        *(".trash", ".trashes", "network trash folder", "$recycle.bin", "recycler", "recycled", "lost+found"),
        # of Samba's vfs_recycle, Synology, QNAP, Unraid, Buffalo, Nextcloud, MEGA, digiKam
        *(".recycle", "#recycle", "@recycle", ".recycle.bin", "trashbox", "files_trashbin", ".debris", ".dtrash"),
        # old versions: of Syncthing, Resilio Sync (.sync/Archive), GoodSync, Nextcloud, Dropbox, Windows
        *(".stversions", ".sync", "_gsdata_", "files_versions", ".dropbox.cache", "system volume information"),
        # data about other files: of netatalk, macOS in ZIP archives, Synology, QNAP
        *(".appledouble", "__macosx", "@eadir", ".@__thumb"),
    }
)

#: Starts of the names of such folders: freedesktop.org's ``.Trash-UID``, chkdsk's ``FOUND.000``.
_TRASH_PREFIXES = (".trash-", "found.0")

#: Folders, in lower case, that are not even searched, because each snapshot or version in them may be as large as the
#: music: of git (git-annex keeps the files there, and links to them), Mercurial, Subversion, ZFS, NetApp, snapper,
#: Synology, QNAP, Time Machine.
_NOT_SEARCHED = frozenset(
    {
        *(".git", ".hg", ".svn", ".zfs", ".snapshot", "~snapshot", ".snapshots", "#snapshot", "@recently-snapshot"),
        "backups.backupdb",
    }
)

#: First bytes of AppleSingle and AppleDouble files (RFC 1740): what macOS writes beside a file on foreign disks, under
#: its name after ``._``.
_APPLE_MAGIC = (b"\0\5\x16\0", b"\0\5\x16\7")

#: Start of the name of a file in the trash of Android 11 and later (MediaStore's ``.trashed-TIME-NAME``).
_ANDROID_TRASH = ".trashed-"

#: What the system says of a link whose target is missing, forbidden, or the link itself.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG)

_TRASH = "files in trash, old versions and the like"


def find_audio_files(folder: Path, left_out: LeftOut | None = None, *, follow_links: bool = False) -> list[Path]:
    """List the files below a folder, to any depth, that are audio by their suffix, in order of their paths.

    Files whose names begin with a dot are judged by their content. Links to files are followed; links to folders are
    not, except as `follow_links` says. What is in a trash or among old versions is left out.

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
    # unlike Path.is_dir, os.path.isdir raises nothing for a link that leads to a forbidden place
    names = sorted(e.name for e in _list_entries(str(folder), LeftOut()) if os.path.isdir(e))  # noqa: PTH112
    return [name for name in names if not name.startswith(".") and not _holds_no_music(name.lower())]


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
    """Return the error for a path of which the system says something else than that it is missing or forbidden."""
    return GenreError(f"cannot list {path} ({error.strerror}); check the disk or the network, then run the same again")


def _leads_elsewhere(link: str, folder: Path) -> bool:
    """Return whether a link leads to a folder that is neither in `folder` nor around it."""
    target = Path(os.path.realpath(link))
    home = Path(os.path.realpath(folder))
    return target.is_dir() and not target.is_relative_to(home) and not home.is_relative_to(target)


def _holds_no_music(name: str) -> bool:
    """Return whether the audio in a folder of this name, in lower case, is no music."""
    return name in _NO_MUSIC or name in _NOT_SEARCHED or name.startswith(_TRASH_PREFIXES)


def _is_searched(folder: os.DirEntry[str], left_out: LeftOut) -> bool:
    """Return whether a folder may hold music; count the audio in it if not."""
    name = folder.name.lower()
    if name in _NOT_SEARCHED:
        left_out.add("folders of snapshots or versions, not searched", folder.path, folder.name)
        return False
    is_home_trash = name == "trash" and folder.path.lower().endswith("/.local/share/trash")
    if not (_holds_no_music(name) or is_home_trash):
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
        return True  # it is listed: whoever decodes it reports what the system says
    except AudioError:
        pass
    left_out.add("files with a leading dot and no audio", entry.path, name_suffix(entry.name))
    return False
