"""The music network's outputs for a clip of ten seconds: ours against the original graph in TensorFlow, on one core.

Claim: at least four times as fast as the graph of the published package, and at most 60 ms a clip. The graph is run as
the package runs it, one patch of three seconds at a time; the same layers rebuilt in Keras take the three patches of a
clip at once. "ours, with filters of zeros" is our code without its shortcut, and "ours, from samples" includes the
resampling and the spectrogram, which the others are given. CPU time; the methods alternate. The wheel musicnn 0.1.0 is
downloaded unless its path is given.

    python -m benchmarks.speed.embeddings
    python -m benchmarks.speed.embeddings --wheel musicnn-0.1.0-py3-none-any.whl
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks._shared import measure
from genre import weights
from genre.config import AudioConfig
from genre.inputs import embeddings, musicnn
from genre.inputs.musicnn import MusicnnWeights
from genre.inputs.stft import Analysis

#: Function from the patches of a clip to their tags.
Network = Callable[[np.ndarray], np.ndarray]

CONFIG = AudioConfig()

#: Folder of the graph and its variables in the wheel.
CHECKPOINT = "musicnn/MSD_musicnn/"

#: Tags, both pools and the penultimate layer in the graph.
OUTPUTS = ["model/Sigmoid", "model/Max", "model/moments/Squeeze", "model/batch_normalization_10/batchnorm/add_1"]


def load_original(wheel: Path, folder: Path) -> Network:
    """Return the published graph, its variables made constants, as the package's extractor runs it.

    Today's TensorFlow refuses a node of the part that trains, so only what leads to the outputs is imported.
    """
    import tensorflow as tf

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [name for name in archive.namelist() if name.startswith(CHECKPOINT)])
    prefix = folder / CHECKPOINT
    meta = tf.compat.v1.MetaGraphDef.FromString((prefix / ".meta").read_bytes())
    graph_def = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, OUTPUTS)
    reader = tf.compat.v1.train.NewCheckpointReader(f"{prefix}/")
    for node in graph_def.node:
        if node.op == "VariableV2":
            values = tf.make_tensor_proto(reader.get_tensor(node.name))
            name = node.name
            node.Clear()
            node.name, node.op = name, "Const"
            node.attr["dtype"].type = values.dtype
            node.attr["value"].tensor.CopyFrom(values)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    session = tf.compat.v1.Session(graph=graph)
    fetched = [f"{name}:0" for name in OUTPUTS]

    def run(patches: np.ndarray) -> np.ndarray:
        fed = ({"model/Placeholder:0": patch[np.newaxis], "model/Placeholder_2:0": False} for patch in patches)
        return np.concatenate([session.run(fetched, values)[0] for values in fed])

    return run


def build_keras(arrays: dict[str, np.ndarray]) -> Network:
    """Return the same layers rebuilt in Keras 3, all patches of a clip at once."""
    import keras
    from keras import layers

    def normalised(x: Any, name: str) -> Any:
        layer = layers.BatchNormalization(epsilon=musicnn.EPSILON)
        y = layer(x)
        layer.set_weights([arrays[f"{name}_{part}"] for part in musicnn.NORM_PARTS])
        return y

    def convolved(x: Any, name: str, padding: str = "valid") -> Any:
        kernel = arrays[f"{name}_kernel"]
        kernel = kernel.reshape(len(kernel), -1, 1, kernel.shape[-1])
        layer = layers.Conv2D(kernel.shape[-1], kernel.shape[:2], padding=padding, activation="relu")
        y = layer(x)
        layer.set_weights([kernel, arrays[f"{name}_bias"]])
        return normalised(y, name)

    def connected(x: Any, name: str, activation: str) -> Any:
        layer = layers.Dense(len(arrays[f"{name}_bias"]), activation=activation)
        y = layer(x)
        layer.set_weights([arrays[f"{name}_kernel"], arrays[f"{name}_bias"]])
        return y

    inputs = keras.Input((musicnn.PATCH_FRAMES, musicnn.N_MELS))
    x = normalised(layers.Reshape((musicnn.PATCH_FRAMES, musicnn.N_MELS, 1))(inputs), "input")
    padded = layers.ZeroPadding2D((3, 0))(x)
    front = [convolved(padded, name) for name in ("timbral_38", "timbral_67")]
    front += [convolved(x, name, "same") for name in ("temporal_128", "temporal_64", "temporal_32")]
    stages = [layers.Concatenate()([keras.ops.max(y, axis=2) for y in front])]
    for name in ("dense_1", "dense_2", "dense_3"):
        y = convolved(layers.ZeroPadding2D((3, 0))(stages[-1][..., None]), name)[:, :, 0]
        stages.append(y if len(stages) == 1 else layers.Add()([y, stages[-1]]))
    channels = layers.Concatenate()(stages)
    pools = keras.ops.stack([keras.ops.max(channels, axis=1), keras.ops.mean(channels, axis=1)], axis=-1)
    hidden = connected(normalised(layers.Flatten()(pools), "pools"), "penultimate", "relu")
    tags = connected(normalised(hidden, "penultimate"), "tags", "sigmoid")
    network = keras.Model(inputs, [tags, pools, hidden])
    return lambda patches: np.asarray(network.predict_on_batch(patches)[0])


def keep_zeros(loaded: MusicnnWeights) -> MusicnnWeights:
    """Return weights of which no filter counts as negligible."""

    class AllLive(MusicnnWeights):
        def is_live(self, name: str) -> np.ndarray:
            return np.ones(musicnn.KERNELS[name][-1], bool)

    return AllLive(loaded.arrays)


def main(wheel: Path | None = None, rounds: int = 7, clips: int = 3) -> None:
    """Measure and print."""
    rng = np.random.default_rng(0)
    y = [(0.1 * rng.normal(size=CONFIG.n_samples)).astype(np.float32) for _ in range(clips)]
    patches = [musicnn.cut_patches(musicnn.log_mel(0.1 * rng.normal(size=160_000))) for _ in range(clips)]
    with TemporaryDirectory() as folder:
        wheel = wheel.expanduser() if wheel else weights.download_wheel(Path(folder))
        loaded = musicnn.load_weights(weights.find_weights(str(wheel)))
        whole = keep_zeros(loaded)
        networks: dict[str, Network] = {
            "original graph": load_original(wheel, Path(folder)),
            "rebuilt in Keras": build_keras(loaded.arrays),
            "ours, with filters of zeros": lambda x: musicnn.forward(x, whole).tags,
            "ours": lambda x: musicnn.forward(x, loaded).tags,
        }
        expected = networks["original graph"](patches[0])
        workloads = {
            name: lambda run=run: sum(1 for x in patches if run(x) is not None) for name, run in networks.items()
        }
        workloads["ours, from samples"] = lambda: sum(
            1 for x in y if embeddings.compute(Analysis(x, CONFIG), {}, loaded) is not None
        )
        seconds = measure.time_alternately(workloads, rounds)
    print(f"\n{len(patches[0])} patches a clip, {rounds} rounds of {clips} clips, one core: {measure.describe_cpu()}")
    print(measure.tabulate_rates(seconds, "original graph", "clips").to_string())
    for name, ms in (1000 * seconds.median()).items():
        difference = f", tags within {abs(networks[name](patches[0]) - expected).max():.0e}" if name in networks else ""
        print(f"{name}: {ms:.1f} ms a clip{difference}")


if __name__ == "__main__":
    measure.run_on_one_core(main)
