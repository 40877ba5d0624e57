"""What a network is trained on: device, precision, compilation, memory; the same on every backend of Keras."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import keras

from genre.errors import TrainingError, UsageError


def detect_device() -> str:
    """``gpu`` where the backend sees one, else ``cpu``."""
    if keras.backend.backend() == "torch":
        return "gpu" if import_module("torch").cuda.is_available() else "cpu"
    return (
        "gpu" if any(name.startswith(("gpu", "cuda", "rocm")) for name in keras.distribution.list_devices()) else "cpu"
    )


def choose_precision(requested: str) -> str:
    """Keras's dtype policy for a training.

    Parameters
    ----------
    requested : {"auto", "float32"}
        ``auto`` is ``mixed_bfloat16`` on a GPU, and on a CPU whose instructions include bfloat16 products, where VGG-16
        is nearly twice as fast by them; without them it would be slower than ``float32``.

    Raises
    ------
    UsageError
        If `requested` is neither.
    """
    if requested not in ("auto", "float32"):
        raise UsageError(f"precision must be auto or float32, got {requested!r}")
    cpuinfo = Path("/proc/cpuinfo")
    has_bfloat16 = detect_device() == "gpu" or (cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text())
    return "mixed_bfloat16" if requested == "auto" and has_bfloat16 else "float32"


def jit_compile_setting(*, dense: bool) -> str | bool:
    """What to compile a network with: Keras's choice, and XLA on a CPU too where there are only dense layers.

    On a CPU, Keras leaves XLA out with TensorFlow. It makes convolutions several times slower there, but an epoch of
    dense layers, most of which is Adam's pass over the weights, takes two thirds of the time.

    Parameters
    ----------
    dense : bool
        Whether the network has no convolution.
    """
    return True if dense and keras.backend.backend() == "tensorflow" else "auto"


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers made inside have this dtype policy; Keras's own setting is of the whole process."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextmanager
def translate_out_of_memory(batch_size: int) -> Iterator[None]:
    """Make any backend's out-of-memory error a TrainingError that names the batch size to try."""
    try:
        yield
    except Exception as error:  # each backend raises a class of its own
        signs = ("resource_exhausted", "resourceexhausted", "out of memory", "outofmemory", "oom when allocating")
        told = f"{type(error).__name__} {error}".lower()
        if not isinstance(error, MemoryError) and not any(sign in told for sign in signs):
            raise
        if batch_size == 1:
            raise TrainingError("out of memory with batch_size=1; take a smaller model or another device") from error
        raise TrainingError(f"out of memory with batch_size={batch_size}; try batch_size={batch_size // 2}") from error
