"""Features and log-mel of a clip against other extractors that can be installed, on one core.

Claim: faster than every one of them. Each peer computes its part of our set (essentia and audioFlux: spectral shape,
contrast or flatness, MFCCs, chroma, level, and essentia a tempo; openSMILE its 88 eGeMAPS functionals; torchaudio a
log-mel); ours are all 97 features, or the stored spectrogram. From samples in memory at 22,050 Hz, over frames of 2,048
at hops of 512. Peers that are not installed are left out:

    pip install essentia opensmile audioflux torchaudio
    python -m benchmarks.speed.peers
"""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks._shared import measure
from benchmarks._shared.music import write_varied_music
from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.inputs import features, spectrogram

CONFIG = AudioConfig()
SR = CONFIG.sr
N_FFT = CONFIG.n_fft
HOP = CONFIG.hop_length

#: Function from the samples of a clip to its features.
Extractor = Callable[[np.ndarray], object]


def essentia() -> Extractor:
    """Return an extractor that goes frame by frame, as in essentia's documentation."""
    import essentia
    import essentia.standard as es

    essentia.log.infoActive = False
    window = es.Windowing(type="hann")
    spectrum = es.Spectrum(size=N_FFT)
    power = es.PowerSpectrum(size=N_FFT)
    moments = es.CentralMoments(range=SR / 2)
    shape = es.DistributionShape()
    centroid = es.Centroid(range=SR / 2)
    rolloff = es.RollOff(sampleRate=SR)
    mfcc = es.MFCC(inputSize=N_FFT // 2 + 1, sampleRate=SR, numberBands=128, numberCoefficients=20)
    contrast = es.SpectralContrast(frameSize=N_FFT, sampleRate=SR)
    peaks = es.SpectralPeaks(sampleRate=SR)
    hpcp = es.HPCP(sampleRate=SR)
    zcr = es.ZeroCrossingRate()
    rms = es.RMS()
    tempo = es.PercivalBpmEstimator(sampleRate=SR)

    def extract(y: np.ndarray) -> object:
        rows = []
        for frame in es.FrameGenerator(y, frameSize=N_FFT, hopSize=HOP, startFromZero=False):
            windowed = window(frame)
            S = spectrum(windowed)
            values = [centroid(S), rolloff(S), zcr(frame), rms(frame), *shape(moments(power(windowed)))]
            rows.append(np.concatenate([values, mfcc(S)[1], *contrast(S), hpcp(*peaks(S))]))
        return np.mean(rows, axis=0), np.std(rows, axis=0), tempo(y)

    return extract


def audioflux() -> Extractor:
    """Return an extractor with a linear spectrogram for the spectral features, and a call for each of the others."""
    import audioflux as af

    bft = af.BFT(
        num=N_FFT // 2 + 1,
        radix2_exp=int(np.log2(N_FFT)),
        samplate=SR,
        slide_length=HOP,
        scale_type=af.type.SpectralFilterBankScaleType.LINEAR,
    )

    def extract(y: np.ndarray) -> object:
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

    return extract


def opensmile() -> Extractor:
    """Return an extractor of the functionals of the extended Geneva set."""
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    return lambda y: smile.process_signal(y, SR)


def torchaudio() -> Extractor:
    """Return an extractor of a log-mel of our shape."""
    import torch
    import torchaudio

    torch.set_num_threads(1)
    mel = torchaudio.transforms.MelSpectrogram(SR, N_FFT, hop_length=HOP, n_mels=CONFIG.n_mels)
    to_db = torchaudio.transforms.AmplitudeToDB(top_db=CONFIG.top_db)
    return lambda y: to_db(mel(torch.from_numpy(y)))


#: Peers by the extractor of ours that they are compared with.
PEERS = {"97 features": [essentia, audioflux, opensmile], "log-mel": [torchaudio]}

OURS: dict[str, Extractor] = {
    "97 features": lambda y: features.extract_features(y, CONFIG),
    "log-mel": lambda y: spectrogram.log_mel(y, CONFIG),
}


def main(folder: Path | None = None, rounds: int = 7) -> None:
    """Print the clips per second of ours and of each peer, and their ratio to ours."""
    with TemporaryDirectory() as temporary:
        paths = map(str, folder.expanduser().glob("*.wav")) if folder else write_varied_music(Path(temporary))
        clips = [prepare_clip(decoding.decode_audio(path, sr=SR), CONFIG) for path in paths]
    print(f"{measure.describe_cpu()}; {len(clips)} clips of ten seconds, {rounds} rounds, one core")
    for ours, peers in PEERS.items():
        extractors = {ours: OURS[ours]}
        for peer in peers:
            try:
                extractors[peer.__name__] = peer()
            except ImportError as error:
                print(f"{peer.__name__} is left out: {error}")
        workloads = {
            name: lambda extract=extract: len([extract(y) for y in clips]) for name, extract in extractors.items()
        }
        seconds = measure.time_alternately(workloads, rounds)
        print(f"\n{measure.tabulate_rates(seconds, ours, 'clips').to_string()}")


if __name__ == "__main__":
    measure.run_on_one_core(main)
