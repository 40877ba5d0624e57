"""The image that a network takes, compared with the nine that the paper's author published."""

import io
from dataclasses import replace
from pathlib import Path

import keras
import librosa
import librosa.display
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from genre.audio import decoding
from genre.audio.clips import prepare_clip
from genre.config import AudioConfig
from genre.inputs import spectrogram
from genre.models import vgg_layers

CONFIG = AudioConfig()
SIDE = 216
#: matplotlib and PIL average over the two frames that fall on a pixel.
HINT = "a bilinear resize without antialiasing is a fifth further away"


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[tuple[Path, Image.Image]]:
    """The author's audio files and his images of them."""
    folder = shared / "audioset_clips"
    return [(path, Image.open(folder / "spectrograms" / f"{path.stem}.jpg")) for path in sorted(folder.glob("*.wav"))]


def published_script(path: Path) -> Image.Image:
    """Image by the published script on today's libraries, with figure and JPEG quality of the published files."""
    y, sr = librosa.load(path, sr=22050)
    emphasised = np.append(y[0], y[1:] - 0.97 * y[:-1])
    S = librosa.feature.melspectrogram(y=emphasised, sr=sr, n_fft=2048, hop_length=512, n_mels=96, fmax=sr / 2)
    figure = Figure(figsize=(3, 3), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), frameon=False, xticks=[], yticks=[])
    librosa.display.specshow(librosa.power_to_db(S, ref=np.max), cmap="jet", ax=axes)
    axes.set_axis_off()
    file = io.BytesIO()
    figure.savefig(file, format="jpg", pil_kwargs={"quality": 95})
    return Image.open(file)


def resized_as_published(image: Image.Image, share: float = 1.0) -> np.ndarray:
    """Image as the published loader resizes it, or the first share of its width."""
    box = (0, 0, share * image.width, image.height)
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box), float)


def render_image(path: Path, config: AudioConfig) -> np.ndarray:
    """Image by the network's first layers from the stored spectrogram, before the division by 255."""
    y = prepare_clip(
        decoding.decode_audio(path, sr=config.sr, duration_s=config.clip_s, resampler=config.resampler), config
    )
    S = spectrogram.log_mel(y, config)
    return 255 * keras.ops.convert_to_numpy(vgg_layers.build_image_layers(S.shape, SIDE, "paper")(S[np.newaxis])[0])


def count_frames(path: Path) -> int:
    """Number of frames of the whole clip, 432 or 433."""
    return 1 + int(librosa.get_duration(path=path) * CONFIG.sr) // CONFIG.hop_length


def error(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference, grey levels of 255."""
    return float(np.abs(a - b).mean())


def test_the_window_is_as_close_as_the_published_script(clips):
    """Ten seconds are 431 frames of the image's 433: both references are cut to that share of their width."""
    shares = [CONFIG.n_frames / count_frames(path) for path, _ in clips]
    targets = [resized_as_published(jpeg, share) for (_, jpeg), share in zip(clips, shares, strict=True)]
    theirs = [
        error(resized_as_published(published_script(path), share), target)
        for (path, _), share, target in zip(clips, shares, targets, strict=True)
    ]
    errors = [error(render_image(path, CONFIG), target) for (path, _), target in zip(clips, targets, strict=True)]
    print(f"window: ours {np.mean(errors):.2f}, published script today {np.mean(theirs):.2f} of 255")
    assert len(clips) == 9
    assert np.mean(errors) <= 1.05 * np.mean(theirs), HINT


def test_the_whole_clip_is_as_close_as_the_published_script(clips):
    """With a window as long as the clip there is nothing to align."""
    theirs = [error(resized_as_published(published_script(path)), resized_as_published(jpeg)) for path, jpeg in clips]
    configs = [replace(CONFIG, clip_s=librosa.get_duration(path=path)) for path, _ in clips]
    errors = [
        error(render_image(path, config), resized_as_published(jpeg))
        for (path, jpeg), config in zip(clips, configs, strict=True)
    ]
    print(f"whole clip: ours {np.mean(errors):.2f}, published script today {np.mean(theirs):.2f} of 255")
    assert np.mean(errors) <= 1.05 * np.mean(theirs), HINT
