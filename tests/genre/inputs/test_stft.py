import os
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from genre.config import AudioConfig
from genre.core import copy_core
from genre.inputs import stft
from genre.inputs.backend import analyse_clip
from genre.inputs.features import FRAME_SERIES, extract_features
from genre.inputs.stft import Analysis, power_to_db
from tests.support.project import ROOT
from tests.support.sounds import tone

CONFIG = AudioConfig()
SERIES = sorted({*FRAME_SERIES, "emphasised_mel"})

COMPILED = ROOT / "genre" / "inputs" / "compiled"

WHICH = """
import numpy as np
from genre.inputs.backend import analyse_clip
from genre.config import AudioConfig
print(type(analyse_clip(np.ones(9, np.float32), AudioConfig())).__name__)
"""


def rows(kernels: str, y: np.ndarray, config: AudioConfig, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    monkeypatch.setenv("GENRE_KERNELS", kernels)
    taken = analyse_clip(y, config).by_frame(SERIES)
    return [taken[series] for series in SERIES]


@pytest.mark.parametrize("n", [1, 700, 2048, 40_000, 220_500])
@pytest.mark.parametrize("variant", ["corrected", "paper"])
def test_compiled_frames_are_the_plain_ones(n, variant, monkeypatch):
    y = tone(10, hz=220)[:n]
    config = AudioConfig(variant=variant)
    pairs = zip(*(rows(kernels, y, config, monkeypatch) for kernels in ("plain", "compiled")), strict=True)
    for plain, compiled in pairs:
        assert plain.shape == compiled.shape and plain.dtype == compiled.dtype
        # A share of the largest: in single precision, what is near 0 beside it is noise.
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=2e-6 * abs(plain).max())


def test_moments_of_both_are_the_same(monkeypatch):
    y = tone(3, hz=220) + np.float32(0.2)
    moments = []
    for kernels in ("plain", "compiled"):
        monkeypatch.setenv("GENRE_KERNELS", kernels)
        moments.append(analyse_clip(y, CONFIG).central_moments(y))
    np.testing.assert_allclose(moments[0], moments[1], rtol=1e-9)
    deviation = y.astype(float) - y.mean(dtype=float)
    np.testing.assert_allclose(moments[0], [y.mean(dtype=float), *(np.mean(deviation**p) for p in (2, 3, 4))])


@pytest.mark.parametrize("variant", ["corrected", "paper"])
def test_levels_of_both_are_the_same(variant, monkeypatch):
    y = tone(3, hz=220)[:40_000] - np.float32(1e-4)
    levels = []
    for kernels in ("plain", "compiled"):
        monkeypatch.setenv("GENRE_KERNELS", kernels)
        a = analyse_clip(y, AudioConfig(variant=variant))
        levels.append((a.count_sign_changes(), a.mean_squares()))
    np.testing.assert_array_equal(levels[0][0], levels[1][0])
    np.testing.assert_allclose(levels[0][1], levels[1][1], rtol=1e-5)


@pytest.mark.parametrize(("n", "n_lags"), [(900, 344), (345, 344), (50, 7), (2000, 700)])
def test_autocorrelations_of_both_are_the_same(n, n_lags, monkeypatch):
    x = np.random.default_rng(0).normal(size=n).astype(np.float32)
    x[: n // 3] = 0
    found = []
    for kernels in ("plain", "compiled"):
        monkeypatch.setenv("GENRE_KERNELS", kernels)
        found.append(analyse_clip(x, CONFIG).autocorrelate(x, stft.hann_window(n_lags)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-12)


@pytest.mark.parametrize("change", [{"hop_length": 300}, {"hop_length": 3000}, {"n_mels": 40}, {"n_fft": 1024}])
def test_other_frames_give_the_same_with_both(change, monkeypatch):
    config = AudioConfig(**change)
    y = tone(3, hz=220)
    pairs = zip(*(rows(kernels, y, config, monkeypatch) for kernels in ("plain", "compiled")), strict=True)
    for plain, compiled in pairs:
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=2e-6 * abs(plain).max())


def test_clips_of_several_threads_do_not_mix():
    signals = [tone(2 + i / 4, hz=220 * (1 + i)) for i in range(8)]
    alone = [extract_features(y, CONFIG) for y in signals]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda y: extract_features(y, CONFIG), signals * 8))
    for i, values in enumerate(together):
        np.testing.assert_array_equal(values, alone[i % len(alone)])


def test_result_does_not_depend_on_the_size_of_a_block(monkeypatch):
    y = tone(3, hz=220)
    values = extract_features(y, CONFIG)
    monkeypatch.setattr(stft, "BLOCK_FRAMES", 7)
    np.testing.assert_allclose(extract_features(y, CONFIG), values, rtol=1e-5, atol=1e-6)


def test_kernels_are_compiled_by_default(monkeypatch):
    monkeypatch.delenv("GENRE_KERNELS", raising=False)
    assert type(analyse_clip(np.ones(9, np.float32), CONFIG)).__name__ == "CompiledAnalysis"
    monkeypatch.setenv("GENRE_KERNELS", "plain")
    assert type(analyse_clip(np.ones(9, np.float32), CONFIG)) is Analysis


def test_plain_where_numba_is_missing():
    code = "import sys; sys.modules['numba'] = None\n" + WHICH
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "Analysis" and "numba does not work here" in done.stderr


def test_plain_where_nothing_may_be_written(tmp_path):
    with zipfile.ZipFile(tmp_path / "genre.zip", "w") as archive:
        for path in ROOT.glob("genre/**/*.py"):
            archive.write(path, path.relative_to(ROOT))
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "PYTHONPATH": str(tmp_path / "genre.zip")}
    own = {k: v for k, v in os.environ.items() if k not in ("GENRE_KERNELS", "NUMBA_CACHE_DIR")}
    done = subprocess.run(
        [sys.executable, "-c", WHICH], cwd=tmp_path, env=own | nowhere, capture_output=True, text=True
    )
    assert done.stdout.strip() == "Analysis" and "Not a directory" in done.stderr


def test_cached_kernels_compute_what_compiled_ones_do(tmp_path):
    code = (
        "import hashlib, numpy as np; from genre.inputs import compute_inputs; "
        "from genre.config import AudioConfig; y = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32); "
        "print(*(hashlib.sha256(a.tobytes()).hexdigest() for a in compute_inputs(y, AudioConfig()).values()))"
    )
    own = {k: v for k, v in os.environ.items() if k != "GENRE_KERNELS"} | {"NUMBA_CACHE_DIR": str(tmp_path / "numba")}
    compiling = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=own, capture_output=True)
    compiled = set((tmp_path / "numba").rglob("*.nbc"))
    n_loops = sum(source.count("@compile_loop") for source in map(Path.read_text, COMPILED.glob("*.py")))
    assert len(compiled) == n_loops > 5
    # a registered version carries a copy of the package, with other times of change
    copy_core(tmp_path / "elsewhere")
    loading = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "elsewhere", env=own, capture_output=True)
    assert compiling.stdout and compiling.stdout == loading.stdout, compiling.stderr + loading.stderr
    assert set((tmp_path / "numba").rglob("*.nbc")) == compiled


def test_processes_that_start_together_compile_once(tmp_path):
    own = {k: v for k, v in os.environ.items() if k != "GENRE_KERNELS"} | {"NUMBA_CACHE_DIR": str(tmp_path)}
    code = (
        WHICH
        + "from genre.inputs.compiled.spectra import analyse_frames as loop; print(loop.stats.cache_misses.total())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=own, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = sorted(process.communicate()[0].split() for process in processes)
    assert outputs == [["CompiledAnalysis", "0"], ["CompiledAnalysis", "1"]]


def test_librosa_is_not_loaded():
    code = WHICH + "import sys; print('librosa' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["CompiledAnalysis", "False"], done.stderr


def test_power_to_db_has_a_floor_and_a_range():
    S = np.array([0.0, 1e-12, 1e-3, 1.0, 1e6])
    np.testing.assert_allclose(power_to_db(S, top_db=80), [-20, -20, -20, 0, 60])
    np.testing.assert_allclose(power_to_db(S[:4], top_db=200), [-100, -100, -30, 0])
