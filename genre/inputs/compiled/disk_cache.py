"""Cache of compiled loops on disk, keyed by the content of `genre.inputs`.

numba's own is keyed by path. Every registered version carries a copy of the package, and would compile it anew wherever
it is loaded, for ten seconds: in a promotion, at the start of a server and of ``-e tag``.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import numba
from numba.core.caching import UserWideCacheLocator

#: Settings of numba, made from its environment variables as it is imported.
_config: Any = numba.config

#: Seconds to wait for another process that compiles; after that this one does so too.
PATIENCE_S = 120.0


class ContentLocator(UserWideCacheLocator):
    """Folder of the compiled code of a loop: in ``NUMBA_CACHE_DIR``, or in numba's cache of the user."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        super().__init__(py_func, py_file)
        sources = sorted(Path(py_file).parents[1].rglob("*.py"))  # constants of other modules are compiled in as well
        self._digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()

    def get_cache_path(self) -> str:
        """Return the folder."""
        parent = Path(_config.CACHE_DIR or Path(super().get_cache_path()).parent)
        return str(parent / f"genre-{self._digest[:16]}")

    def get_source_stamp(self) -> str:
        """Return the SHA-256 of the sources; code compiled from others is not used."""
        return self._digest


#: Locators in the order in which they are tried: after ours those of numba, for where ours cannot be written.
_LOCATORS = ", ".join(
    [
        *(f"{__name__}.{ContentLocator.__name__}", "UserProvidedCacheLocator", "InTreeCacheLocator"),
        *("UserWideCacheLocator", "IPythonCacheLocator", "ZipCacheLocator"),
    ]
)


def compile_loop(function: Callable[..., Any]) -> Any:
    """Have numba compile a loop at its first call, or load it from disk; without Python's lock.

    Threads of a server analyse different clips at once: none of the loops touches a Python object.
    """
    by_default = _config.CACHE_LOCATOR_CLASSES
    _config.CACHE_LOCATOR_CLASSES = _LOCATORS  # for this function only, not for librosa's
    try:
        return numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(function)
    finally:
        _config.CACHE_LOCATOR_CLASSES = by_default


@contextmanager
def lock_cache(loop: Any, patience_s: float) -> Iterator[bool]:
    """Hold a lock for the first call of a loop, so that of processes which start together one compiles it.

    Parameters
    ----------
    loop : callable
        From `compile_loop`.
    patience_s : float
        Seconds to wait for another process that holds the lock, 0 or more.

    Yields
    ------
    bool
        Whether the lock is held.
    """
    lock = filelock.FileLock(Path(loop.stats.cache_path) / f".{loop.__name__}.lock")
    with suppress(filelock.Timeout):
        lock.acquire(timeout=patience_s)
    try:
        yield lock.is_locked
    finally:
        lock.release()
