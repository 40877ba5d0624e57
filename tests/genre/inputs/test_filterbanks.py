import librosa
import numpy as np
import pytest

from genre.inputs import filterbanks


@pytest.mark.parametrize("n_mels", [40, 96, 128])
@pytest.mark.parametrize(("sr", "n_fft"), [(22050, 2048), (44100, 1024)])
def test_mel_is_librosas(sr, n_fft, n_mels):
    bank = filterbanks.mel_filterbank(sr, n_fft, n_mels)
    assert bank.shape == (1 + n_fft // 2, n_mels) and bank.dtype == np.float32
    np.testing.assert_allclose(bank.T, librosa.filters.mel(sr=sr, n_fft=n_fft, n_mels=n_mels), atol=1e-7)
    np.testing.assert_allclose(
        filterbanks.mel_corners_hz(sr, n_mels), librosa.mel_frequencies(n_mels=n_mels + 2, fmax=sr / 2)
    )


def test_sparse_mel_is_mel():
    bank = filterbanks.mel_filterbank(22050, 2048, 96)
    first, ends, weights = filterbanks.sparse_mel_filterbank(22050, 2048, 96)
    dense = np.zeros_like(bank)
    for band in range(96):
        some = weights[ends[band] : ends[band + 1]]
        dense[first[band] : first[band] + len(some), band] = some
    np.testing.assert_array_equal(dense, bank)


@pytest.mark.parametrize("tuning", [-0.5, -0.03, 0.0, 0.49])
def test_chroma_is_librosas(tuning):
    bank = filterbanks.chroma_filterbank(22050, 2048, tuning)
    np.testing.assert_allclose(bank.T, librosa.filters.chroma(sr=22050, n_fft=2048, tuning=tuning), atol=1e-7)


def test_octave_bands_are_those_of_the_published_script():
    bands = filterbanks.octave_bands(22050, 2048)
    assert [(band.stop - band.start, n) for band, n in bands] == [
        (18, 1),
        (19, 1),
        (37, 1),
        (74, 2),
        (149, 3),
        (297, 6),
        (431, 9),
    ]
