"""Files by path or URL; the contents of a URL must never change."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from genre.errors import DataError, hide_secrets
from genre.files import read_json, write_atomically, write_json

#: Seconds without data after which a download is abandoned.
TIMEOUT_S = 60


def is_url(source: str) -> bool:
    """Return whether a source is a URL and must be downloaded."""
    return source.startswith(("http://", "https://"))


def check_source(source: str) -> Path | None:
    """Return the path of a source after checking that it exists; None for a URL.

    Raises
    ------
    DataError
        If there is no such file.
    """
    if is_url(source):
        return None
    path = Path(source).expanduser().resolve()
    if not path.exists():
        raise DataError(f"there is no {path}; give a path or a URL")
    return path


def fetch_file(source: str, directory: Path) -> Path:
    """Return the path of a source; a URL is downloaded once.

    The SHA-256 of its first download is recorded in ``sha256.json``, under its URL, or the name of the file where that
    has a password or a query; a later download must be the same.

    Parameters
    ----------
    source : str
        A path, or a URL (http or https).
    directory : Path
        Folder of downloads and their record.

    Returns
    -------
    Path
        Path of the local file.

    Raises
    ------
    DataError
        If there is no such file, the download fails, or its contents have changed.
    """
    if path := check_source(source):
        return path
    ledger = directory / "sha256.json"
    known = read_json(ledger) or {}
    name = urlsplit(source).path.rstrip("/").rsplit("/", 1)[-1]
    path = directory / f"{hashlib.sha256(source.encode()).hexdigest()[:8]}-{name}"
    key = source if hide_secrets(source) == source else path.name
    data = path.read_bytes() if path.exists() else _download(source)
    found = hashlib.sha256(data).hexdigest()
    if known.setdefault(key, found) != found:
        raise DataError(
            f"{source} was {known[key][:12]}… (SHA-256) and is now {found[:12]}…; if that is meant, remove {ledger}"
        )
    write_json(ledger, known)
    return path if path.exists() else write_atomically(path, lambda temporary: temporary.write_bytes(data))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read())
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DataError(f"cannot download {url}: {error}; download it yourself and give its path") from None
