#!/usr/bin/env bash
# keras.utils.set_random_seed between epochs makes TensorFlow prepare the compiled functions of fit() again, each time.
#
# Versions    keras 3.15.1, tensorflow 2.21.0, numpy 2.4.6.
# Behaviour   On the TensorFlow backend set_random_seed calls tf.random.set_seed, which clears the cache of kernels of the
#             eager context. The functions that fit() has traced stay, but their next call instantiates them anew. In a
#             callback's on_epoch_begin that costs a fixed time per epoch, several times that of a small network's epoch.
#             Losses of a network without dropout are the same with and without it.
# Guess       Setting a seed takes microseconds, as for random and NumPy, and leaves compiled code alone.
# Use         Who seeds every epoch, so that a resumed training continues as an uninterrupted one, passes
#             keras.random.SeedGenerator to the layers and stores its state, or seeds only on the torch backend, whose
#             dropout draws from the process's own generator.
# Output seen
#             processor time of an epoch, seeded over not: more than twice
#             losses: equal
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 tensorflow==2.21.0 numpy==2.4.6
cat > "$folder/seed.py" <<'PYTHON'
import os
import statistics
import sys
import time

os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
import keras
import numpy as np

x = np.random.default_rng(0).normal(size=(64, 32, 32, 1)).astype("float32")
y = np.arange(64) % 4


class Clock(keras.callbacks.Callback):
    def __init__(self, seeded):
        super().__init__()
        self.seeded = seeded
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.process_time()
        if self.seeded:
            keras.utils.set_random_seed(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.process_time() - self.started)


def train(seeded):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(8, 3, activation="relu") for _ in range(6)]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    clock = Clock(seeded)
    history = model.fit(x, y, batch_size=32, epochs=12, shuffle=False, verbose=0, callbacks=[clock])
    return statistics.median(clock.seconds[2:]), history.history["loss"]


plain, losses = train(seeded=False)
seeded, same = train(seeded=True)
lines = [
    f"processor time of an epoch, seeded over not: {'more than' if seeded > 2 * plain else 'at most'} twice",
    f"losses: {'equal' if losses == same else 'different'}",
]
print(*lines, sep="\n")
print(f"{seeded:.3f} s against {plain:.3f}", file=sys.stderr)
sys.exit(lines != ["processor time of an epoch, seeded over not: more than twice", "losses: equal"])
PYTHON
"$folder/venv/bin/python" "$folder/seed.py"
