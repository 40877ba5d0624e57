"""The inner core of the package: what a served model needs, and what decides whether a training is still valid.

A registered version carries a copy of `CORE` and of nothing else. The digest of a training covers `CORE` and
`TRAINING`: after a change anywhere else in the package no model is trained again.
"""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

#: Files and folders of the package that a served model imports.
CORE = (
    *("__init__.py", "config.py", "errors.py", "parameters.py", "files.py", "folds.py", "answer_log.py", "ensemble.py"),
    *("audio/__init__.py", "audio/clips.py", "audio/decoding.py", "audio/readers", "audio/scans"),
    *("inputs", "probabilities", "models"),
)

#: What a training imports besides: itself, the reading of stores, and the scores that it leaves.
TRAINING = (
    *("core.py", "training/__init__.py", "training/job.py", "training/process.py"),
    *("store/__init__.py", "store/contents.py", "store/lookup.py", "store/parts.py"),
    *("evaluate", "workers/__init__.py", "workers/environment.py"),
)

_PACKAGE = Path(__file__).parent


def source_files(names: Iterable[str] = CORE, package: Path = _PACKAGE) -> list[Path]:
    """Return the Python files that some names stand for, sorted; of a folder, those that can be imported.

    Parameters
    ----------
    names : iterable of str
        Files and folders, relative to the package.
    package : Path
        Folder of the package.
    """
    paths = [package / name for name in names]
    files = (file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path]))
    return sorted(file for file in files if _is_importable(file.relative_to(package)))


def source_digest(names: Iterable[str], package: Path = _PACKAGE) -> str:
    """Return the SHA-256 of the sources that some names stand for, paths included, in hexadecimal.

    Parameters
    ----------
    names, package
        As for `source_files`.
    """
    digest = hashlib.sha256()
    for path in source_files(names, package):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def copy_core(directory: Path) -> Path:
    """Copy the core into a folder, as a package of the same name.

    Parameters
    ----------
    directory : Path
        Folder that is to hold the package.

    Returns
    -------
    Path
        Folder of the copied package.
    """
    package = directory / _PACKAGE.name
    for path in source_files():
        target = package / path.relative_to(_PACKAGE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return package


def _is_importable(path: Path) -> bool:
    """Return whether a file can be a module, which the backups and locks of editors and notebooks cannot."""
    names = path.with_suffix("").parts
    return all(name.isidentifier() for name in names) and "__pycache__" not in names
