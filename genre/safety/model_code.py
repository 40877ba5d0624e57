"""Whose code a logged model carries: a model is a program, which runs with the rights of the user who loads it.

Only two kinds of code are run unasked: the code of this installation, and the code of models that this workspace itself
logged, or was told to accept, before the installation changed.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from genre.core import source_files
from genre.errors import GenreError
from genre.files import make_directory, remove_path, write_atomically
from genre.workspace import PROJECT_DIR, known_code_dir

#: What the file ``MLmodel`` of this project's models names as the code that MLflow is to load: first the only flavour,
#: then keys of that.
ENTRY = {
    "flavors": ["python_function"],
    "loader_module": "mlflow.pyfunc.loaders.code_model",
    "code": "code",
    "model_code_path": "model.py",
}

#: Keys of the flavour that would name other code, or another place for it.
OTHER_KEYS = ("data", "python_model")

#: Most files named in a message.
MAX_NAMED = 3


class ForeignCodeError(GenreError):
    """Model with code that is neither this installation's nor known to this workspace."""


def check_code(model: Path, name: str) -> None:
    """Check that the code of a downloaded model may be run; compiled copies of its sources are removed first.

    Parameters
    ----------
    model : Path
        Folder of the model, which nothing has loaded yet.
    name : str
        Its name, for the message.

    Raises
    ------
    ForeignCodeError
        If a file of its code differs from this installation's, and this workspace knows no such code.
    """
    found = _model_code(model)
    here = _installed_code()
    differing = sorted(file for file in found.keys() | here.keys() if found.get(file) != here.get(file))
    if not differing or (known_code_dir() / _digest(found)).exists():
        return
    n_more = len(differing) - MAX_NAMED
    files = ", ".join(differing[:MAX_NAMED]) + (f" and {n_more} more" if n_more > 0 else "")
    raise ForeignCodeError(
        f"{name} is not run: its code differs from this installation's in {files}, and no version with this code was "
        "logged in this workspace; if you trust whoever logged it, accept its code by -P any_code=true, which is "
        "needed once (python -m serving.deploy: --any-code)"
    )


def accept_code(model: Path) -> None:
    """Let this workspace run the code of a downloaded model from now on."""
    _remember(_model_code(model))


def remember_installed_code() -> None:
    """Let this workspace run the code of this installation even when the installation has changed."""
    _remember(_installed_code())


def _remember(code: Mapping[str, str]) -> None:
    """Add code to what this workspace knows: an empty file, named by the digest."""
    write_atomically(make_directory(known_code_dir()) / _digest(code), Path.touch)


def _digest(code: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(code.items())).encode()).hexdigest()


def _installed_code() -> dict[str, str]:
    """Return the SHA-256 of each file that a model logged now carries as its code, and of what its MLmodel names."""
    package = PROJECT_DIR / "genre"
    files = {f"code/genre/{path.relative_to(package).as_posix()}": path for path in source_files(package=package)}
    files["model.py"] = PROJECT_DIR / "serving" / "model.py"
    return {name: _sha256(path.read_bytes()) for name, path in files.items()} | {"MLmodel": _entry_sha256(ENTRY)}


def _model_code(model: Path) -> dict[str, str]:
    """Return the same of a downloaded model; if MLflow would load code from elsewhere, of all its files."""
    for cache in list(model.rglob("__pycache__")):  # Python would prefer them to the sources
        remove_path(cache)
    entry = _read_entry(model)
    files = [model / "model.py", *(model / "code").rglob("*")] if entry == ENTRY else model.rglob("*")
    contents = {path.relative_to(model).as_posix(): _sha256(path.read_bytes()) for path in files if path.is_file()}
    return contents | {"MLmodel": _entry_sha256(entry)}


def _read_entry(model: Path) -> dict[str, Any]:
    """Return what a model's MLmodel names as its code; nothing if it cannot be read."""
    try:
        flavors = yaml.safe_load((model / "MLmodel").read_text(encoding="utf-8"))["flavors"]
        keys = (*ENTRY, *OTHER_KEYS)
        chosen = {key: flavors["python_function"][key] for key in keys if flavors["python_function"].get(key)}
        chosen["model_code_path"] = Path(chosen["model_code_path"]).name  # as MLflow takes it, whatever its folder was
        return {"flavors": sorted(flavors)} | chosen
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return {}


def _entry_sha256(entry: Mapping[str, Any]) -> str:
    return _sha256(json.dumps(entry, sort_keys=True, default=str).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
