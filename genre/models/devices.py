"""Device, precision, compilation and memory of a network's training, the same on every backend of Keras."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import keras

from genre.errors import TrainingError, UsageError

#: Values of ``ONEDNN_MAX_CPU_ISA`` that exclude bfloat16 instructions, from oneDNN's manual ("CPU dispatcher control").
ISA_WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def detect_device() -> str:
    """Return ``gpu`` where the backend sees one, else ``cpu``."""
    if keras.backend.backend() == "torch":
        return "gpu" if import_module("torch").cuda.is_available() else "cpu"
    devices = keras.distribution.list_devices()
    return "gpu" if any(name.startswith(("gpu", "cuda", "rocm")) for name in devices) else "cpu"


def choose_precision(requested: str) -> str:
    """Return Keras's dtype policy for a training.

    Parameters
    ----------
    requested : {"auto", "float32"}
        ``auto`` is ``mixed_bfloat16`` on a GPU, and on a CPU with bfloat16 instructions that ``ONEDNN_MAX_CPU_ISA``
        does not exclude, where VGG-16 is nearly twice as fast with it; on other CPUs it would be slower than
        ``float32``, which is used there.

    Raises
    ------
    UsageError
        If `requested` is neither.
    """
    if requested not in ("auto", "float32"):
        raise UsageError(f"precision must be auto or float32, got {requested!r}")
    is_mixed = requested == "auto" and (detect_device() == "gpu" or _cpu_has_bfloat16())
    return "mixed_bfloat16" if is_mixed else "float32"


def _cpu_has_bfloat16() -> bool:
    """Return whether oneDNN, which computes TensorFlow's convolutions on a CPU, can use bfloat16 instructions.

    Below a limit without them, a convolution in bfloat16 raises an error.
    """
    cpuinfo = Path("/proc/cpuinfo")
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    return limit not in ISA_WITHOUT_BFLOAT16 and cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def jit_compile_setting(*, dense: bool) -> str | bool:
    """Return the value of Keras's ``jit_compile``: Keras's own choice, or XLA for networks without convolutions.

    On a CPU, Keras does not use XLA with TensorFlow. XLA makes convolutions several times slower there, but an epoch of
    dense layers, most of which is Adam's pass over the weights, takes two thirds of the time.

    Parameters
    ----------
    dense : bool
        True if the network has no convolution.
    """
    return True if dense and keras.backend.backend() == "tensorflow" else "auto"


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Give the layers made inside a dtype policy; Keras's own setting applies to the whole process."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


@contextmanager
def translate_out_of_memory(batch_size: int) -> Iterator[None]:
    """Turn any backend's out-of-memory error into a TrainingError that names the batch size to try.

    Raises
    ------
    TrainingError
        If memory does not suffice.
    """
    try:
        yield
    except Exception as error:  # each backend raises a class of its own
        signs = ("resource_exhausted", "resourceexhausted", "out of memory", "outofmemory", "oom when allocating")
        text = f"{type(error).__name__} {error}".lower()
        if not isinstance(error, MemoryError) and not any(sign in text for sign in signs):
            raise
        if batch_size == 1:
            raise TrainingError("out of memory with batch_size=1; use a smaller model or another device") from error
        raise TrainingError(f"out of memory with batch_size={batch_size}; try batch_size={batch_size // 2}") from error
