import io
import zipfile

import librosa
import numpy as np
import pytest

from genre.errors import DataError, UsageError
from genre.inputs import musicnn
from genre.inputs.musicnn import MusicnnWeights, apply_head, cut_patches, forward, load_weights, log_mel, save_weights
from tests.support.network import random_weights
from tests.support.sounds import tone

WEIGHTS = random_weights()


def plain_network(patch: np.ndarray, weights: MusicnnWeights) -> dict[str, np.ndarray]:
    """The layers of the published code one after another, in double precision: each normalised, then the maximum."""
    a = {name: array.astype(float) for name, array in weights.arrays.items()}

    def normalised(x: np.ndarray, name: str) -> np.ndarray:
        scaled = (x - a[f"{name}_mean"]) / np.sqrt(a[f"{name}_variance"] + 1e-3)
        return a[f"{name}_gamma"] * scaled + a[f"{name}_beta"]

    def convolved(x: np.ndarray, name: str, before: int) -> np.ndarray:
        kernel = a[f"{name}_kernel"].reshape(len(a[f"{name}_kernel"]), -1, a[f"{name}_kernel"].shape[-1])
        padded = np.pad(x, ((before, len(kernel) - 1 - before), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2])
        return normalised(np.maximum(np.tensordot(windows, kernel, 2) + a[f"{name}_bias"], 0), name)

    x = normalised(patch[..., np.newaxis].astype(float), "input")[..., 0]
    before = {"timbral_38": 3, "timbral_67": 3, "temporal_128": 63, "temporal_64": 31, "temporal_32": 15}
    front_end = np.hstack([convolved(x, name, n).max(axis=1) for name, n in before.items()])
    first = convolved(front_end, "dense_1", 3)[:, 0]
    second = first + convolved(first, "dense_2", 3)[:, 0]
    third = second + convolved(second, "dense_3", 3)[:, 0]
    channels = np.hstack([front_end, first, second, third])
    pools = np.stack([channels.max(axis=0), channels.mean(axis=0)])
    hidden = normalised(pools.T.reshape(-1), "pools") @ a["penultimate_kernel"] + a["penultimate_bias"]
    penultimate = normalised(np.maximum(hidden, 0), "penultimate")
    tags = 1 / (1 + np.exp(-(penultimate @ a["tags_kernel"] + a["tags_bias"])))
    return {"tags": tags, "mean_pool": pools[1], "max_pool": pools[0], "penultimate": penultimate}


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    return cut_patches(log_mel(tone(7, hz=300, sr=16000)))


# network


def test_outputs_are_those_of_the_layers_one_after_another(patches):
    outputs = forward(patches, WEIGHTS)
    for n, patch in enumerate(patches):
        for name, expected in plain_network(patch, WEIGHTS).items():
            found = getattr(outputs, name)[n]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * abs(expected).max(), err_msg=name)


def test_outputs_are_those_of_the_original_graph(shared, musicnn_weights):
    reference = np.load(shared / "musicnn" / "reference.npz")
    for clip, patches in enumerate(reference["patches"]):
        outputs = forward(patches, musicnn_weights)
        for name in outputs._fields:
            expected = reference[f"MSD_musicnn_{name}"][clip]
            np.testing.assert_allclose(
                getattr(outputs, name), expected, rtol=0, atol=1e-5 * abs(expected).max(), err_msg=name
            )
    assert musicnn_weights.tags == tuple(reference["msd_tags"]) == musicnn.MSD_TAGS


def test_a_patch_has_the_same_outputs_alone(patches):
    together = forward(patches, WEIGHTS)
    for n in range(len(patches)):
        for found, expected in zip(forward(patches[n : n + 1], WEIGHTS), together, strict=True):
            np.testing.assert_allclose(found[0], expected[n], rtol=1e-4, atol=1e-5 * abs(expected).max())


def test_tags_follow_from_the_pools(patches):
    outputs = forward(patches, WEIGHTS)
    tags, penultimate = apply_head(outputs.max_pool, outputs.mean_pool, WEIGHTS)
    # not to the last digit: `forward` limits BLAS to one thread, and some kernels add up in another order with two
    np.testing.assert_allclose(tags, outputs.tags, rtol=1e-5)
    np.testing.assert_allclose(penultimate, outputs.penultimate, rtol=1e-5, atol=1e-5 * abs(outputs.penultimate).max())


@pytest.mark.parametrize("shape", [(187, 96), (0, 187, 96), (1, 187, 64)])
def test_patches_of_another_shape_are_refused(shape):
    with pytest.raises(UsageError, match=r"pass shape \(n, 187, 96\)"):
        forward(np.zeros(shape, np.float32), WEIGHTS)


# spectrogram


def test_spectrogram_is_librosas():
    y = tone(3, hz=300, sr=16000)
    mel = librosa.feature.melspectrogram(y=y, sr=16000, n_fft=512, hop_length=256, n_mels=96)
    np.testing.assert_allclose(log_mel(y), np.log10(10000 * mel.T + 1), atol=1e-5)


def test_spectrogram_is_that_of_the_reference(shared):
    reference = np.load(shared / "musicnn" / "reference.npz")
    for clip, expected in zip(reference["clips"], reference["log_mel"], strict=True):
        y, _ = librosa.load(shared / "audioset_clips" / f"{clip}.wav", sr=16000)
        S = log_mel(y[: 10 * 16000])
        np.testing.assert_allclose(S[:-2], expected[:-2], atol=1e-5)
        assert cut_patches(S).shape == (3, 187, 96)


def test_silence_has_a_spectrogram_of_zeros_and_finite_outputs():
    S = log_mel(np.zeros(16000, np.float32))
    assert S.shape == (63, 96) and not S.any()
    assert all(np.isfinite(values).all() for values in forward(cut_patches(S), WEIGHTS))


@pytest.mark.parametrize("level", [1e-20, 1.0, 1e12])
@pytest.mark.parametrize("n", [1, 300, 48000])
def test_any_finite_audio_has_finite_outputs(n, level):
    y = np.random.default_rng(0).uniform(-level, level, n).astype(np.float32)
    assert all(np.isfinite(values).all() for values in forward(cut_patches(log_mel(y)), WEIGHTS))


def test_loud_music_is_not_infinite():
    y = np.sin(2 * np.pi * 440 * np.arange(48000) / 16000).astype(np.float32)
    assert 5 < log_mel(y).max() < 10  # above 6.55 the published code's half precision overflows


def test_patches_are_whole_and_a_short_clip_is_one_patch_that_ends_in_silence():
    S = np.arange(600 * 96, dtype=np.float32).reshape(600, 96)
    np.testing.assert_array_equal(cut_patches(S), [S[:187], S[187:374], S[374:561]])
    short = cut_patches(S[:50])
    assert short.shape == (1, 187, 96) and not short[0, 50:].any()
    np.testing.assert_array_equal(short[0, :50], S[:50])


# file of weights


def test_weights_are_read_as_they_were_written(tmp_path):
    save_weights(tmp_path / "weights.tmp", WEIGHTS)
    read = load_weights(tmp_path / "weights.tmp")
    assert read.digest == WEIGHTS.digest and len(read.digest) == 64
    assert (read.tags, read.license) == (musicnn.MSD_TAGS, "terms of the test")
    assert {name: array.shape for name, array in read.arrays.items()} == musicnn.SHAPES
    assert all((array == WEIGHTS.arrays[name]).all() for name, array in read.arrays.items())


def test_the_digest_is_that_of_the_values():
    changed = dict(reversed(WEIGHTS.arrays.items()))
    assert MusicnnWeights(changed).digest == WEIGHTS.digest
    changed["tags_bias"] = changed["tags_bias"] + np.float32(1e-6)
    assert MusicnnWeights(changed).digest != WEIGHTS.digest


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def whole(**changes: np.ndarray) -> bytes:
    return npz(**(WEIGHTS.arrays | {"tag_names": np.array(musicnn.MSD_TAGS), "license": np.array("")} | changes))


def zip_of(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read"),
        (b"no file of arrays", "cannot be read"),
        (npz(a=np.zeros(3)), "timbral_38_kernel is missing"),
        (zip_of("musicnn/__init__.py"), "timbral_38_kernel is missing"),
        (whole()[:2_000_000], "cannot be read"),
        (whole(tags_bias=np.zeros(50)), "tags_bias is float64"),
        (whole(tags_bias=np.zeros(49, np.float32)), r"of shape \(49,\), not float32 of shape \(50,\)"),
        (whole(tags_bias=np.full(50, np.nan, np.float32)), "not finite"),
        (whole(tags_bias=np.array([None] * 50)), "cannot be read"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, content, message):
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_weights(path)
    assert str(path) in str(caught.value) and "musicnn 0.1.0" in str(caught.value)


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(DataError, match="cannot be read"):
            load_weights(path)
