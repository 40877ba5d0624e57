"""Clips from disk into a batch, in shuffled order: the store against the published method, on one CPU core.

Published: a JPEG of 300 × 300 at quality 95, PIL's Lanczos to 216 × 216, an array divided by 255. Ours: the store,
through the batches that training uses. Claims, in CPU time, with the files in the page cache:

- at least 20 times as many images with stretch, look-up and resize on both sides (`store, compiled image`: float32 in
  0 .. 1, 216 × 216, within a grey level of PIL's bilinear, by a kernel that only this benchmark has);
- far more without them (`store, bytes`): this is the work of the CPU where a GPU does the rest, in the network's first
  layers.

`store, network's layers` is those layers run on this core by Keras, as in training and serving without a GPU. They take
little time compared with VGG-16, and there is no claim about them.

    python -m benchmarks.speed.input_pipeline
    python -m benchmarks.speed.input_pipeline --clips 40540    # all of the paper's, 1.7 GB in the temporary folder
"""

from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import numba
import numpy as np
import pandas as pd
from PIL import Image

from benchmarks._shared import measure
from genre.files import write_table
from genre.inputs import spectrogram
from genre.models import keras_training, vgg_layers
from genre.store import building, contents

#: Width and height of an image.
SIDE = 216

BATCH = 32

#: Frames that make one column of the image, 431 to 216; a constant, so that the compiler unrolls the loop over them.
TAPS = 4

#: Different spectrograms, and JPEGs on disk: the published method reads fewer files than ours, in its favour.
DISTINCT = 1024


def write_store(S: np.ndarray, n: int, folder: Path) -> contents.InputReader:
    """Write a store of n clips in parts of the usual size, which repeat the given spectrograms."""
    clips = pd.DataFrame({"clip_id": [f"clip-{i:06d}" for i in range(n)], "stamp": "0"})
    for start in range(0, n, building.MAX_BATCH):
        part = clips.iloc[start : start + building.MAX_BATCH].assign(row=lambda t: np.arange(len(t)))
        np.save(folder / f"part-{start:06d}.npy", S[np.arange(start, start + len(part)) % len(S)])
        write_table(folder / f"part-{start:06d}.parquet", part)
    return contents.InputReader(clips, folder)


def write_jpegs(S: np.ndarray, folder: Path) -> list[Path]:
    """Write spectrograms as the published script does; return the paths."""
    paths = [folder / f"{i}.jpg" for i in range(len(S))]
    for path, clip in zip(paths, S, strict=True):
        image = Image.fromarray(spectrogram.render_rgb_image(clip))
        image.resize((300, 300), Image.Resampling.NEAREST).save(path, quality=95)
    return paths


def make_published_loader(paths: list[Path]) -> Callable[[], int]:
    """Return a function that loads a batch as the published code does and returns the number of images."""
    order = cycle(np.random.default_rng(0).permutation(len(paths)))

    def load_batch() -> int:
        images = [Image.open(paths[next(order)]) for _ in range(BATCH)]
        return len(np.array([np.array(p.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) / 255.0 for p in images]))

    return load_batch


def iterate_batches(X: contents.InputReader) -> Iterator[np.ndarray]:
    """Yield batches of stored bytes as training reads them, without end."""
    batches = keras_training.ClipBatches(X, np.zeros(len(X), int), 1, BATCH, seed=0)
    while True:
        yield from (batches[i][0] for i in range(len(X) // BATCH))
        batches.on_epoch_end()


def repeat(n: int, workload: Callable[[], int]) -> Callable[[], int]:
    """Return a function that does a workload n times: a fast one needs more work to be timed."""
    return lambda: sum(workload() for _ in range(n))


def bilinear_taps(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of n that make each of m outputs of PIL's bilinear resize, and their weights; (m, taps)."""
    scale = max(n / m, 1.0)
    centre = (np.arange(m) + 0.5) * n / m
    weights = np.maximum(0, 1 - np.abs((np.arange(n) + 0.5 - centre[:, np.newaxis]) / scale))
    weights /= weights.sum(axis=1, keepdims=True)
    n_taps = (weights > 0).sum(axis=1).max()
    indices = np.minimum((weights > 0).argmax(axis=1), n - n_taps)[:, np.newaxis] + np.arange(n_taps)
    # Unsigned: numba then does not check for indices that count from the end, and the loop becomes twice as fast.
    return indices.astype(np.uint64), np.take_along_axis(weights, indices, axis=1).astype(np.float32)


@numba.njit(fastmath=True, error_model="numpy")
def draw_images(
    S: np.ndarray,
    jet: np.ndarray,
    columns: np.ndarray,
    w_columns: np.ndarray,
    rows: np.ndarray,
    w_rows: np.ndarray,
    out: np.ndarray,
) -> None:
    """Draw images of stored spectrograms: stretch, look-up, resize over time, resize over frequency."""
    n_mels = S.shape[1]
    side = len(columns)
    wide = np.empty((n_mels, side, 3), np.float32)
    colours = np.zeros_like(jet)
    flat = wide.reshape(n_mels, 3 * side)
    for i in range(len(S)):
        low = np.int64(S[i].min())
        high = np.int64(S[i].max())
        spread = high - low if high > low else 1
        for value in range(low, high + 1):
            colours[value] = jet[min((value - low) * 256 // spread, 255)]
        for h in range(n_mels):
            row = S[i, n_mels - 1 - h]
            for x in range(side):
                r = np.float32(0)
                g = np.float32(0)
                b = np.float32(0)
                for k in range(TAPS):
                    weight = w_columns[x, k]
                    value = row[columns[x, k]]
                    r += weight * colours[value, 0]
                    g += weight * colours[value, 1]
                    b += weight * colours[value, 2]
                wide[h, x, 0] = r
                wide[h, x, 1] = g
                wide[h, x, 2] = b
        for y in range(side):
            upper = flat[rows[y, 0]]
            lower = flat[rows[y, 1]]
            line = out[i, y]
            for x in range(3 * side):
                line[x] = w_rows[y, 0] * upper[x] + w_rows[y, 1] * lower[x]


def make_drawing(shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that draws a batch; the next call overwrites the array that it returns."""
    colours = spectrogram.render_rgb_image(np.arange(256, dtype=np.uint8)[np.newaxis])[0]
    jet = np.zeros((256, 4), np.float32)
    jet[:, :3] = colours / 255
    taps = (*bilinear_taps(shape[2], SIDE), *bilinear_taps(shape[1], SIDE))
    out = np.empty((BATCH, SIDE, 3 * SIDE), np.float32)

    def draw_batch(S: np.ndarray) -> np.ndarray:
        draw_images(S, jet, *taps, out)
        return out.reshape(BATCH, SIDE, SIDE, 3)

    return draw_batch


def check_images(draw_batch: Callable[[np.ndarray], np.ndarray], S: np.ndarray) -> None:
    """Fail unless the images are PIL's, within the rounding of its two passes."""
    images = [Image.fromarray(rgb) for rgb in spectrogram.render_rgb_image(S)]
    by_pil = np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in images])
    difference = np.abs(255 * draw_batch(S) - by_pil).max()
    assert difference <= 1.01, f"{difference:.2f} grey levels from PIL's"


def main(clips: int = 10_240, repeats: int = 9) -> None:
    """Measure and print."""
    S = measure.synthesize_spectrograms(min(clips, DISTINCT))
    with TemporaryDirectory() as folder:
        X = write_store(S, clips, Path(folder))
        paths = write_jpegs(S, Path(folder))
        stored = iterate_batches(X)
        draw_batch = make_drawing(X.shape)
        check_images(draw_batch, S[:BATCH])
        for _ in range(clips // BATCH):  # all files into the page cache
            next(stored)
        layers = vgg_layers.build_image_layers(X.shape[1:], SIDE, "paper")
        workloads = {
            "published: JPEG, PIL": repeat(4, make_published_loader(paths)),
            "store, bytes": repeat(60, lambda: len(next(stored))),
            "store, compiled image": repeat(20, lambda: len(draw_batch(next(stored)))),
            "store, network's layers": repeat(4, lambda: len(layers.predict_on_batch(next(stored)))),
        }
        seconds = measure.time_alternately(workloads, repeats)
        kilobytes = np.mean([path.stat().st_size for path in paths]) / 1000
    print(f"\n{clips:,} clips, batches of {BATCH}, JPEG of {kilobytes:.0f} kB; one core: {measure.describe_cpu()}")
    print(measure.tabulate_rates(seconds, "published: JPEG, PIL", "images").to_string())


if __name__ == "__main__":
    measure.run_on_one_core(main)
