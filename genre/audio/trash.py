"""Folders whose audio is no music: deleted, an old version, or data about other files."""

#: Such folders, in lower case, by who makes them.
_NAMES = frozenset(
    {
        *(".trash", ".trashes", ".documentrevisions-v100", "__macosx"),  # macOS; the last in ZIP archives
        *("$recycle.bin", "recycler", "recycled", "system volume information"),  # Windows
        *(".trash", "lost+found", "lost.dir"),  # freedesktop.org's specification of trash, e2fsck, Android
        *("network trash folder", ".appledouble"),  # AppleShare and netatalk
        *(".recycle", ".recycle.bin", "trashbox"),  # Samba's vfs_recycle by default, and on Unraid and Buffalo
        *("#recycle", "@eadir"),  # Synology
        *("@recycle", "network recycle bin", ".@__thumb"),  # QNAP
        *(".stversions", ".sync", "_gsdata_", ".dropbox.cache"),  # Syncthing, Resilio Sync, GoodSync, Dropbox
        *("files_trashbin", "files_versions", ".debris", ".dtrash"),  # Nextcloud, MEGA, digiKam
    }
)

#: Starts of the names of such folders: freedesktop.org's ``.Trash-UID``, and ``FOUND.000`` of Windows' chkdsk.
_PREFIXES = (".trash-", "found.0")

#: Folders, in lower case, that are not even searched, because each snapshot or version in them may be as large as the
#: music.
_VERSIONS = frozenset(
    {
        *(".git", ".hg", ".svn"),  # git-annex keeps the files in the first, and links to them
        *(".zfs", ".snapshot", "~snapshot", ".snapshots"),  # ZFS, NetApp, snapper
        *("#snapshot", "@recently-snapshot", "backups.backupdb"),  # Synology, QNAP, Time Machine
    }
)


def is_trash(path: str) -> bool:
    """Return whether the audio in a folder is no music, by its name; folders around it do not count."""
    name = _folded_name(path)
    # the user's own trash is called like many an album
    return name in _NAMES or name.startswith(_PREFIXES) or path.lower().endswith("/.local/share/trash")


def holds_versions(path: str) -> bool:
    """Return whether a folder holds snapshots or versions of others, by its name."""
    return _folded_name(path) in _VERSIONS


def _folded_name(path: str) -> str:
    """Return the last part of a path in lower case."""
    return path.rpartition("/")[2].lower()
