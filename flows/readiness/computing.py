"""Weights of the music network, decoders of audio, and the GPU."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flows.readiness.findings import Finding, State
from genre.errors import DataError, GenreError
from genre.workspace import PROJECT_DIR

#: Sampling rate of the clip that is decoded, Hz, and its length in samples: half a second.
CLIP_SR, CLIP_LENGTH = 22050, 11025

#: Longest wait for the answer about a GPU, seconds: TensorFlow alone takes half a minute on a busy machine.
GPU_TIMEOUT_S = 300


def look_at_weights() -> list[Finding]:
    """Look for the weights of the music network: given, turned off, in the workspace, or still to be downloaded."""
    from genre import weights  # brings SciPy
    from genre.inputs import musicnn

    what = "weights"
    if weights.are_turned_off():
        text = f"turned off by {weights.WEIGHTS_VARIABLE}: models on embeddings are left out"
        return [Finding(what, State.NOTE, text)]
    if given := os.environ.get(weights.WEIGHTS_VARIABLE):
        weights.check_given()
        return [Finding(what, State.READY, given)]
    try:
        musicnn.load_weights(weights.cached_path())
    except DataError:
        text = "not here yet: the first command that needs the music network downloads them, 29 MB, by pip"
        return [Finding(what, State.NOTE, text)]
    return [Finding(what, State.READY, str(weights.cached_path()))]


def look_at_decoders() -> list[Finding]:
    """Encode half a second of a tone with soundfile as FLAC and with PyAV as AAC, and decode each."""
    import av
    import soundfile

    versions = f"soundfile {soundfile.__version__} with {soundfile.__libsndfile_version__}, PyAV {av.__version__}"
    for name, encode in (("FLAC", encode_flac), ("AAC", encode_aac)):
        _check_decoded(name, encode)
    return [Finding("decoders", State.READY, f"{versions}; FLAC and AAC are decoded")]


def encode_flac(clip: np.ndarray) -> bytes:
    """Encode mono samples [shape=(n,), float32] at `CLIP_SR` with libsndfile."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, clip, CLIP_SR, format="FLAC")
    return file.getvalue()


def encode_aac(clip: np.ndarray) -> bytes:
    """Encode mono samples [shape=(n,), float32] at `CLIP_SR` with FFmpeg."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=CLIP_SR, layout="mono")
        frame = av.AudioFrame.from_ndarray(clip[None], format="fltp", layout="mono")
        frame.sample_rate = CLIP_SR
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


def look_at_gpu() -> list[Finding]:
    """Ask the backend of Keras for a GPU, in a process of its own, where a broken driver ends nothing else."""
    code = "from genre.models.devices import detect_device; print(detect_device())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_DIR,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=GPU_TIMEOUT_S,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return [Finding("GPU", State.PROBLEM, f"Keras cannot be imported: {last}")]
    if done.stdout.split()[-1:] == ["gpu"]:
        return [Finding("GPU", State.READY, "networks are trained on it")]
    advice = ', or install its libraries: pip install -c requirements.txt -e ".[gpu]"' if has_nvidia_device() else ""
    return [Finding("GPU", State.NOTE, f"none that Keras sees: networks are trained on the CPU{advice}")]


def suggest_gpu() -> list[Finding]:
    """Say how to look for a GPU, which takes TensorFlow's import; a device of NVIDIA is seen without."""
    seen = "a device of NVIDIA is there" if has_nvidia_device() else "no device of NVIDIA is there"
    return [Finding("GPU", State.READY, f"{seen}, and none is needed; --gpu asks Keras, in half a minute")]


def has_nvidia_device() -> bool:
    """Return whether the system shows a GPU of NVIDIA."""
    return Path("/dev/nvidiactl").exists()


def _check_decoded(name: str, encode: Callable[[np.ndarray], bytes]) -> None:
    """Check that a tone is heard in its encoded form."""
    from genre.audio.decoding import decode_audio

    clip = np.sin(np.arange(CLIP_LENGTH) * 2 * np.pi * 440 / CLIP_SR).astype(np.float32) / 2
    decoded = decode_audio(encode(clip), sr=CLIP_SR)
    middle = decoded[CLIP_LENGTH // 4 : CLIP_LENGTH // 2]
    if not 0.3 < float(np.abs(middle).max(initial=0)) < 0.7:  # a lossy codec moves the peak of 0.5 a little
        raise GenreError(f"a tone in {name} is not decoded as it was; install the decoders anew: soundfile, av")
