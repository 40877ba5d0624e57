"""Clips from disk into a batch, in shuffled order: the store against the published way, on one CPU core.

Published: a JPEG of 300 × 300 at quality 95, PIL's Lanczos to 216 × 216, an array divided by 255. Ours: the store,
through the batches that training uses. Claims, CPU time, files in the page cache:

- at least 20 times as many pictures with stretch, look-up and resize counted on both sides (`store, compiled picture`:
  float32 in 0 .. 1, 216 × 216, within a grey level of PIL's bilinear, by a kernel that is this benchmark's own);
- far more without them (`store, bytes`): what is left to the CPU where a GPU does the rest, in the network's first
  layers.

`store, network's layers` is those layers run on this core by Keras, which is how a model is trained and served without
a GPU. Beside VGG-16 they weigh little, and no claim is made of them.

    python benchmarks/input_pipeline.py
    python benchmarks/input_pipeline.py --clips 40540    # all of the paper's, 1.7 GB in the temporary folder
"""

import measure

measure.one_core()

from collections.abc import Callable, Iterator  # noqa: E402
from itertools import cycle  # noqa: E402
from pathlib import Path  # noqa: E402
from tempfile import TemporaryDirectory  # noqa: E402

import numba  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import typer  # noqa: E402
from PIL import Image  # noqa: E402

from genre.files import write_table  # noqa: E402
from genre.inputs import spectrogram  # noqa: E402
from genre.models import keras_training, vgg_layers  # noqa: E402
from genre.store import building, contents  # noqa: E402

SIDE, BATCH = 216, 32

#: Frames that make one column of the picture, 431 to 216; a constant, so that the compiler unrolls the loop over them.
TAPS = 4

#: Different spectrograms, and pictures on disk: the published side reads from fewer files than ours, to its favour.
DISTINCT = 1024


def write_store(S: np.ndarray, n: int, folder: Path) -> contents.Spectrograms:
    """A store of n clips in parts of the usual size, their spectrograms those given, over and over."""
    clips = pd.DataFrame({"clip_id": [f"clip-{i:06d}" for i in range(n)], "stamp": "0"})
    for start in range(0, n, building.MAX_BATCH):
        part = clips.iloc[start : start + building.MAX_BATCH].assign(row=lambda t: np.arange(len(t)))
        np.save(folder / f"part-{start:06d}.npy", S[np.arange(start, start + len(part)) % len(S)])
        write_table(folder / f"part-{start:06d}.parquet", part)
    return contents.Spectrograms(clips, folder)


def write_pictures(S: np.ndarray, folder: Path) -> list[Path]:
    """The spectrograms as the published script left them."""
    paths = [folder / f"{i}.jpg" for i in range(len(S))]
    for path, one in zip(paths, S, strict=True):
        Image.fromarray(spectrogram.render_rgb_image(one)).resize((300, 300), Image.Resampling.NEAREST).save(
            path, quality=95
        )
    return paths


def published(paths: list[Path]) -> Callable[[], int]:
    """One batch as the published loader makes it."""
    order = cycle(np.random.default_rng(0).permutation(len(paths)))

    def batch() -> int:
        pictures = [Image.open(paths[next(order)]) for _ in range(BATCH)]
        return len(np.array([np.array(p.resize((SIDE, SIDE), Image.Resampling.LANCZOS)) / 255.0 for p in pictures]))

    return batch


def shuffled(X: contents.Spectrograms) -> Iterator[np.ndarray]:
    """Batches of stored bytes as training reads them, for ever."""
    batches = keras_training.ClipBatches(X, np.zeros(len(X), int), 1, BATCH, seed=0)
    while True:
        yield from (batches[i][0] for i in range(len(X) // BATCH))
        batches.on_epoch_end()


def times(n: int, once: Callable[[], int]) -> Callable[[], int]:
    """Do it n times: a fast way needs more work to be timed."""
    return lambda: sum(once() for _ in range(n))


def triangle(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of n inputs make each of m outputs of PIL's bilinear resize, and their weights; both (m, taps)."""
    scale = max(n / m, 1.0)
    centre = (np.arange(m) + 0.5) * n / m
    weights = np.maximum(0, 1 - np.abs((np.arange(n) + 0.5 - centre[:, np.newaxis]) / scale))
    weights /= weights.sum(axis=1, keepdims=True)
    taps = (weights > 0).sum(axis=1).max()
    at = np.minimum((weights > 0).argmax(axis=1), n - taps)[:, np.newaxis] + np.arange(taps)
    # Unsigned: numba need not ask whether an index counts from the end, and the loop becomes twice as fast.
    return at.astype(np.uint64), np.take_along_axis(weights, at, axis=1).astype(np.float32)


@numba.njit(fastmath=True, error_model="numpy")
def draw(
    S: np.ndarray,
    jet: np.ndarray,
    across: np.ndarray,
    w_across: np.ndarray,
    down: np.ndarray,
    w_down: np.ndarray,
    out: np.ndarray,
) -> None:
    """Pictures of stored spectrograms: stretch, look-up, resize over time, resize over frequency."""
    n_mels, side = S.shape[1], len(across)
    wide, colours = np.empty((n_mels, side, 3), np.float32), np.zeros_like(jet)
    flat = wide.reshape(n_mels, 3 * side)
    for i in range(len(S)):
        low, high = np.int64(S[i].min()), np.int64(S[i].max())
        spread = high - low if high > low else 1
        for value in range(low, high + 1):
            colours[value] = jet[min((value - low) * 256 // spread, 255)]
        for h in range(n_mels):
            row = S[i, n_mels - 1 - h]
            for x in range(side):
                r = g = b = np.float32(0)
                for k in range(TAPS):
                    weight, value = w_across[x, k], row[across[x, k]]
                    r += weight * colours[value, 0]
                    g += weight * colours[value, 1]
                    b += weight * colours[value, 2]
                wide[h, x, 0], wide[h, x, 1], wide[h, x, 2] = r, g, b
        for y in range(side):
            upper, lower, line = flat[down[y, 0]], flat[down[y, 1]], out[i, y]
            for x in range(3 * side):
                line[x] = w_down[y, 0] * upper[x] + w_down[y, 1] * lower[x]


def compiled(shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """`draw` on a batch; the array returned is used again by the next."""
    colours = spectrogram.render_rgb_image(np.arange(256, dtype=np.uint8)[np.newaxis])[0]
    jet = np.zeros((256, 4), np.float32)
    jet[:, :3] = colours / 255
    taps = (*triangle(shape[2], SIDE), *triangle(shape[1], SIDE))
    out = np.empty((BATCH, SIDE, 3 * SIDE), np.float32)

    def pictures(S: np.ndarray) -> np.ndarray:
        draw(S, jet, *taps, out)
        return out.reshape(BATCH, SIDE, SIDE, 3)

    return pictures


def check(pictures: Callable[[np.ndarray], np.ndarray], S: np.ndarray) -> None:
    """Fail unless they are PIL's, within the rounding of PIL's two passes."""
    rgb = [
        Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for one in spectrogram.render_rgb_image(S)
    ]
    furthest = np.abs(255 * pictures(S) - np.stack([np.asarray(p) for p in rgb])).max()
    assert furthest <= 1.01, f"{furthest:.2f} grey levels from PIL's"


def main(clips: int = 10_240, repeats: int = 9) -> None:
    """Measure and print."""
    S = measure.noise(min(clips, DISTINCT))
    with TemporaryDirectory() as folder:
        X, paths = write_store(S, clips, Path(folder)), write_pictures(S, Path(folder))
        stored, draw_batch = shuffled(X), compiled(X.shape)
        check(draw_batch, S[:BATCH])
        for _ in range(clips // BATCH):
            next(stored)
        layers = vgg_layers.build_image_layers(X.shape[1:], SIDE, "paper")
        ways = {
            "published: JPEG, PIL": times(4, published(paths)),
            "store, bytes": times(60, lambda: len(next(stored))),
            "store, compiled picture": times(20, lambda: len(draw_batch(next(stored)))),
            "store, network's layers": times(4, lambda: len(layers.predict_on_batch(next(stored)))),
        }
        seconds = measure.alternately(ways, repeats)
        kilobytes = np.mean([path.stat().st_size for path in paths]) / 1000
    print(f"\n{clips:,} clips, batches of {BATCH}, JPEG of {kilobytes:.0f} kB; one core: {measure.cpu()}")
    print(measure.compared(seconds, "published: JPEG, PIL", "pictures").to_string())


if __name__ == "__main__":
    typer.run(main)
