"""Python, the installed packages, and the programs by which ``mlflow run`` builds environments."""

import platform
import shutil
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from flows.readiness.findings import Finding, State
from genre.workspace import PROJECT_DIR

#: Command that installs the versions that were tested.
INSTALL = "pip install -c requirements.txt -e ."

#: Most packages that a row names.
MAX_NAMED = 5


def look_at_python(project: Path = PROJECT_DIR / "pyproject.toml") -> list[Finding]:
    """Compare this Python's version with the accepted ones.

    Parameters
    ----------
    project : Path
        File with ``requires-python``.
    """
    accepted = tomllib.loads(project.read_text())["project"]["requires-python"]
    version = platform.python_version()
    if SpecifierSet(accepted).contains(version, prereleases=True):
        return [Finding("Python", State.READY, f"{version} at {sys.prefix}")]
    text = f"{version}; {accepted} is needed: make the environment anew with such a Python"
    return [Finding("Python", State.PROBLEM, text)]


def look_at_packages(pins: Path = PROJECT_DIR / "requirements.txt") -> list[Finding]:
    """Compare the installed packages with the versions that were tested.

    Parameters
    ----------
    pins : Path
        File with a line ``name==version`` per package.
    """
    lines = [line for line in pins.read_text().splitlines() if line and not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    needed = [r for r in requirements if r.marker is None or r.marker.evaluate()]
    installed = {r.name: _installed_version(r.name) for r in needed}
    missing = [r.name for r in needed if installed[r.name] is None]
    other = [f"{r.name} {version}" for r in needed if (version := installed[r.name]) and version not in r.specifier]
    if missing:
        text = f"missing: {_shorten(missing)}; install them with: {INSTALL}"
        return [Finding("packages", State.PROBLEM, text)]
    if other:
        text = f"not the tested version: {_shorten(other)}; for the tested ones: {INSTALL}"
        return [Finding("packages", State.NOTE, text)]
    return [Finding("packages", State.READY, f"{len(needed)}, all in the tested versions")]


def look_at_environment_managers() -> list[Finding]:
    """Look for the programs by which ``mlflow run`` makes environments, according to ``--env-manager``."""
    python = shutil.which("python")
    if python is None or Path(python).parent.resolve() != Path(sys.executable).parent.resolve():
        text = f"python on the PATH is {python or 'missing'}; activate this environment: . {sys.prefix}/bin/activate"
        return [Finding("mlflow run", State.NOTE, text)]
    has_conda = shutil.which("conda") is not None
    parts = [
        "add --env-manager local, which uses this environment",
        "without it conda makes another" if has_conda else "without it conda is needed, and there is none",
    ]
    if shutil.which("uv"):
        parts.append("--env-manager uv downloads another")
    if shutil.which("pyenv"):
        parts.append("--env-manager virtualenv has pyenv download a Python, too")
    return [Finding("mlflow run", State.READY if has_conda else State.NOTE, "; ".join(parts))]


def _installed_version(name: str) -> str | None:
    """Return the version of an installed package; None if it is missing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _shorten(names: list[str]) -> str:
    """Return the first names, and the number of the others."""
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")
