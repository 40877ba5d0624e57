import io
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.errors import UsageError
from genre.probabilities import tables
from genre.studies import robustness
from tests.support.project import ROOT
from tests.support.sounds import tone

SR = robustness.SR
Y = tone(10, hz=220, sr=SR)


def heard(name: str, y: np.ndarray = Y, sr: int = SR) -> np.ndarray:
    return decoding.decode_audio(robustness.degrade_clip(y, name), sr=sr)


def loudest_hz(y: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(y[:SR] * np.hanning(SR)))
    return float(np.fft.rfftfreq(SR, 1 / SR)[spectrum.argmax()])


def test_the_clean_degradation_changes_nothing():
    np.testing.assert_allclose(heard(robustness.CLEAN), Y, atol=1e-4)
    assert next(iter(robustness.DEGRADATIONS)) == robustness.CLEAN


@pytest.mark.parametrize("name", robustness.DEGRADATIONS)
def test_each_degradation_gives_a_clip_that_can_be_classified(name):
    config = AudioConfig()
    y = prepare_clip(heard(name, sr=config.sr), config)
    assert 4.9 * config.sr < y.size <= config.n_samples


def test_what_librosa_compiles_is_compiled_before_several_processes_use_it(tmp_path):
    """Two processes that compile it at once leave a cache that kills every later one."""
    snapshots = []
    for call in ("compile_degradations()", "degrade_clip(np.ones(9000, np.float32), 'pitch +1 semitone')"):
        script = f"import numpy as np\nfrom genre.studies import robustness\nrobustness.{call}"
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, check=True)
        snapshots.append({path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")})
    assert len(snapshots[0]) > 4 and snapshots[0] == snapshots[1]


def test_the_bit_rate_is_the_one_named():
    for kbit in (64, 128):
        file = robustness.degrade_clip(Y, f"MP3, {kbit} kbit/s")
        assert len(file) * 8 / 10 / 1000 == pytest.approx(kbit, rel=0.03)
        assert np.corrcoef(heard(f"MP3, {kbit} kbit/s")[SR : 2 * SR], Y[SR : 2 * SR])[0, 1] > 0.9


@pytest.mark.parametrize("db", [-6, -20, 6])
def test_gain_in_decibels_and_full_scale_is_the_end(db):
    soft = Y * 0.3
    change = 20 * np.log10(np.abs(heard(f"gain {db:+d} dB", soft)).std() / np.abs(soft).std())
    assert change == pytest.approx(db, abs=0.05)
    assert np.abs(heard("gain +6 dB", np.clip(2 * Y, -1, 1))).max() <= 1


def test_noise_lies_twenty_decibels_below_and_is_seeded():
    noise = heard("white noise, 20 dB below", 0.3 * Y) - 0.3 * Y
    assert 20 * np.log10(noise.std() / (0.3 * Y).std()) == pytest.approx(-20, abs=0.1)
    files = [robustness.degrade_clip(Y, "white noise, 20 dB below", seed=seed) for seed in (1, 1, 2)]
    assert files[0] == files[1] != files[2]


def test_pitch_and_speed_move_what_they_should():
    t = np.arange(10 * SR) / SR
    y = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    semitone = 2 ** (1 / 12)
    for name, factor, length in (
        ("pitch +1 semitone", semitone, 1),
        ("pitch -1 semitone", 1 / semitone, 1),
        ("speed +5 %", 1.05, 1 / 1.05),
        ("speed -5 %", 0.95, 1 / 0.95),
    ):
        z = heard(name, y)
        assert loudest_hz(z[SR:]) == pytest.approx(440 * factor, abs=2), name
        assert z.size == pytest.approx(y.size * length, rel=1e-3), name


def test_rates_and_lengths():
    for khz in (16, 48):
        with sf.SoundFile(io.BytesIO(robustness.degrade_clip(Y, f"resampled to {khz} kHz"))) as file:
            assert (file.samplerate, file.frames) == (1000 * khz, 10000 * khz)
    assert heard("first five seconds").size == 5 * SR
    with pytest.raises(UsageError, match="unknown degradation 'flanger'; choose from as it is"):
        robustness.degrade_clip(Y, "flanger")


def table(strength: float, n: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    p = 1 / (1 + np.exp(-(strength * (2 * y - 1) + rng.normal(size=n))))
    ids = pd.Index([f"c{i:03d}" for i in range(n)])
    return tables.probability_table(ids, "test", np.array(["a", "b"])[y], ids, np.column_stack([1 - p, p]), ["a", "b"])


def test_card_compares_with_the_audio_as_it_is():
    card = robustness.robustness_card({robustness.CLEAN: table(2), "bad": table(0.3), "half": table(2).iloc[:100]})
    card = card.set_index("degradation")
    assert card.loc[robustness.CLEAN, ["change", "same_answer"]].tolist() == [0, 1]
    assert card.loc["bad", "change_high"] < 0 and card.loc["bad", "same_answer"] < 1
    assert card.loc["half", "clips"] == 100 and card.loc["half", "change"] == 0
    assert (card["macro_auc_low"] < card["macro_auc"]).all() and (card["macro_auc"] < card["macro_auc_high"]).all()
    with pytest.raises(UsageError, match="no table of the audio 'as it is'"):
        robustness.robustness_card({"bad": table(1)})
