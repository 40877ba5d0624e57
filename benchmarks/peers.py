"""Features and log-mel of a clip against the extractors a user could install instead, on one core.

Each peer computes what it has of our set (essentia and audioFlux: spectral shape, contrast or flatness, MFCCs, chroma,
level, and essentia a tempo; openSMILE its 88 eGeMAPS functionals; torchaudio a log-mel), ours all 97 features, or the
stored spectrogram. From samples in memory at 22,050 Hz, over frames of 2,048 at hops of 512. Claim: ahead of every one.
Those that are not installed are left out:

    pip install essentia opensmile audioflux torchaudio
    python benchmarks/peers.py
"""

import measure

measure.one_core()

from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import features as made  # noqa: E402  (benchmarks/features.py)
import numpy as np  # noqa: E402
import typer  # noqa: E402

from genre.audio import decoding  # noqa: E402
from genre.audio.clips import prepare_clip  # noqa: E402
from genre.config import AudioConfig  # noqa: E402
from genre.inputs import features, spectrogram  # noqa: E402

CONFIG = AudioConfig()
SR, N_FFT, HOP = CONFIG.sr, CONFIG.n_fft, CONFIG.hop_length
One = Callable[[np.ndarray], object]


def essentia() -> One:
    """Frame by frame, as its documentation does."""
    import essentia
    import essentia.standard as es

    essentia.log.infoActive = False
    window, spectrum, power = es.Windowing(type="hann"), es.Spectrum(size=N_FFT), es.PowerSpectrum(size=N_FFT)
    moments, shape = es.CentralMoments(range=SR / 2), es.DistributionShape()
    centroid, rolloff = es.Centroid(range=SR / 2), es.RollOff(sampleRate=SR)
    mfcc = es.MFCC(inputSize=N_FFT // 2 + 1, sampleRate=SR, numberBands=128, numberCoefficients=20)
    contrast = es.SpectralContrast(frameSize=N_FFT, sampleRate=SR)
    peaks, hpcp = es.SpectralPeaks(sampleRate=SR), es.HPCP(sampleRate=SR)
    zcr, rms, tempo = es.ZeroCrossingRate(), es.RMS(), es.PercivalBpmEstimator(sampleRate=SR)

    def one(y: np.ndarray) -> object:
        rows = []
        for frame in es.FrameGenerator(y, frameSize=N_FFT, hopSize=HOP, startFromZero=False):
            windowed = window(frame)
            S = spectrum(windowed)
            values = [centroid(S), rolloff(S), zcr(frame), rms(frame), *shape(moments(power(windowed)))]
            rows.append(np.concatenate([values, mfcc(S)[1], *contrast(S), hpcp(*peaks(S))]))
        return np.mean(rows, axis=0), np.std(rows, axis=0), tempo(y)

    return one


def audioflux() -> One:
    """One linear spectrogram for its spectral features, its own calls for the others."""
    import audioflux as af

    bft = af.BFT(
        num=N_FFT // 2 + 1,
        radix2_exp=int(np.log2(N_FFT)),
        samplate=SR,
        slide_length=HOP,
        scale_type=af.type.SpectralFilterBankScaleType.LINEAR,
    )

    def one(y: np.ndarray) -> object:
        S = np.abs(bft.bft(y))
        shape = af.Spectral(num=bft.num, fre_band_arr=bft.get_fre_band_arr())
        shape.set_time_length(S.shape[-1])
        rows = [
            shape.centroid(S),
            shape.rolloff(S),
            shape.spread(S),
            shape.skewness(S),
            shape.flatness(S),
            shape.rms(S),
        ]
        rows += [*af.mfcc(y, cc_num=20, mel_num=128, samplate=SR, slide_length=HOP)[0]]
        rows += [*af.chroma_linear(y, samplate=SR, slide_length=HOP)]
        return [(row.mean(), row.std()) for row in rows]

    return one


def opensmile() -> One:
    """The extended Geneva set, its functionals."""
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    return lambda y: smile.process_signal(y, SR)


def torchaudio() -> One:
    """A log-mel of our shape."""
    import torch
    import torchaudio

    torch.set_num_threads(1)
    mel = torchaudio.transforms.MelSpectrogram(SR, N_FFT, hop_length=HOP, n_mels=CONFIG.n_mels)
    to_db = torchaudio.transforms.AmplitudeToDB(top_db=CONFIG.top_db)
    return lambda y: to_db(mel(torch.from_numpy(y)))


#: Which of ours each is measured against.
PEERS = {"97 features": [essentia, audioflux, opensmile], "log-mel": [torchaudio]}

OURS: dict[str, One] = {
    "97 features": lambda y: features.extract_features(y, CONFIG),
    "log-mel": lambda y: spectrogram.log_mel(y, CONFIG),
}


def main(folder: Path | None = None, rounds: int = 7) -> None:
    """Print clips a second of ours and of each peer, and how many times ours they take."""
    with TemporaryDirectory() as folder_made:
        paths = map(str, folder.expanduser().glob("*.wav")) if folder else made.make_music(Path(folder_made))
        clips = [prepare_clip(decoding.decode_audio(path, sr=SR), CONFIG) for path in paths]
    print(f"{measure.cpu()}; {len(clips)} clips of ten seconds, {rounds} rounds, one core")
    for ours, peers in PEERS.items():
        ways = {ours: OURS[ours]}
        for peer in peers:
            try:
                ways[peer.__name__] = peer()
            except ImportError as error:
                print(f"{peer.__name__} is left out: {error}")
        timed = {name: lambda one=one: len([one(y) for y in clips]) for name, one in ways.items()}
        print(f"\n{measure.compared(measure.alternately(timed, rounds), ours, 'clips').to_string()}")


if __name__ == "__main__":
    typer.run(main)
