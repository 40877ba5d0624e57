"""AudioSet's published VGGish features, from small TFRecord files."""

import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from genre import datasets
from genre.acquisition.ontology import LABELS_FILE, PAPER_GENRES
from genre.datasets import vggish
from genre.errors import DataError
from genre.store import contents

REGGAE = PAPER_GENRES["Reggae"]
TECHNO = PAPER_GENRES["Techno"]
CLASSES = ["/m/09x0r", REGGAE, *[f"/m/0{n}" for n in range(200)], TECHNO]  # techno's index needs two bytes


def varint(n: int) -> bytes:
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def entry(name: str, message: bytes) -> bytes:
    return field(1, field(1, name.encode()) + field(2, message))


def example(ytid: str, start_s: float, labels: list[int], seconds: np.ndarray, *, is_packed: bool = True) -> bytes:
    """Encode a tf.train.SequenceExample as in the published files."""
    numbers = field(1, b"".join(map(varint, labels))) if is_packed else b"".join(b"\x08" + varint(n) for n in labels)
    context = entry("video_id", field(1, field(1, ytid.encode()))) + entry("labels", field(3, numbers))
    for name, value in (("start_time_seconds", start_s), ("end_time_seconds", start_s + 10)):
        context += entry(name, field(2, field(1, struct.pack("<f", value))))
    frames = b"".join(field(1, field(1, field(1, second.tobytes()))) for second in seconds)
    return field(1, context) + field(2, entry("audio_embedding", frames))


def write_records(path: Path, *examples: bytes) -> None:
    import tensorflow as tf

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for serialised in examples:
            writer.write(serialised)


def some_seconds(seed: int, n: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 128), dtype=np.uint8)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    folder = tmp_path / "audioset_v1_embeddings"
    write_records(
        folder / "bal_train" / "-a.tfrecord",
        example("-abcdefghij", 30, [0, 1], some_seconds(0)),
        example("ABCDEFGHIJK", 0.5, [CLASSES.index(TECHNO)], some_seconds(1, 3), is_packed=False),
        example("speech12345", 0, [0], some_seconds(2)),
        example("both1234567", 0, [1, CLASSES.index(TECHNO)], some_seconds(3)),
        example("silent12345", 0, [1], some_seconds(4, 0)),
    )
    write_records(folder / "eval" / "aa.tfrecord", example("evaluation1", 70, [1], some_seconds(5)))
    lines = [f'{n},{mid},"class {n}"' for n, mid in enumerate(CLASSES)]
    (folder / LABELS_FILE).write_text("\n".join(["index,mid,display_name", *lines]) + "\n")
    return folder


def test_records_become_clips_and_256_features(records, tmp_path):
    table = datasets.load_clips("vggish", str(records), tmp_path, {}).set_index("clip_id")
    assert set(table.index) == {"-abcdefghij_30", "ABCDEFGHIJK_0.5", "evaluation1_70"}
    assert table.loc["ABCDEFGHIJK_0.5", ["genre", "recording"]].tolist() == ["Techno", "ABCDEFGHIJK"]
    assert table.loc["evaluation1_70", ["genre", "end_s"]].tolist() == ["Reggae", 80]
    values = datasets.load_source_features("vggish", str(records))
    assert list(values.columns) == vggish.VGGISH_NAMES
    assert values.shape == (5, 256)
    seconds = some_seconds(1, 3) / 255 * 4 - 2
    np.testing.assert_allclose(values.loc["ABCDEFGHIJK_0.5"][:128], seconds.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(values.loc["ABCDEFGHIJK_0.5"][128:], seconds.std(axis=0), atol=1e-5)


def test_records_with_several_genres_follow_the_policy(records, tmp_path):
    table = datasets.load_clips("vggish", str(records), tmp_path, {"policy": "first"}).set_index("clip_id")
    assert table.loc["both1234567_0", "genre"] == "Reggae"


def test_a_store_keeps_the_columns_of_the_source(records, tmp_path):
    clips = datasets.load_clips("vggish", str(records), tmp_path, {})
    values = datasets.load_source_features("vggish", str(records))
    contents.write_source_features(clips, values, tmp_path / "store")
    loaded = contents.load_features(clips, tmp_path / "store")
    assert list(loaded.columns) == contents.column_names(tmp_path / "store") == vggish.VGGISH_NAMES
    np.testing.assert_array_equal(loaded, values.loc[clips["clip_id"]])


@pytest.mark.parametrize("cut", [-1, -20, 100, 11, 5])
def test_a_damaged_file_is_refused(records, tmp_path, cut):
    path = records / "eval" / "aa.tfrecord"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"aa.tfrecord is damaged"):
        datasets.load_clips("vggish", str(records), tmp_path, {})


def test_a_file_that_ends_within_the_head_of_a_record_is_refused(records, tmp_path):
    path = records / "bal_train" / "-a.tfrecord"
    path.write_bytes(path.read_bytes() + path.read_bytes()[:7])
    with pytest.raises(DataError, match=r"a.tfrecord is damaged.*ends within a record"):
        datasets.load_clips("vggish", str(records), tmp_path, {})


def test_a_changed_byte_is_refused(records, tmp_path):
    path = records / "eval" / "aa.tfrecord"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"aa.tfrecord is damaged.*checksum"):
        datasets.load_clips("vggish", str(records), tmp_path, {})


def test_records_that_lack_a_field_are_refused(records, tmp_path):
    whole = example("evaluation1", 70, [1], some_seconds(5))
    for name in ("video_id", "labels", "end_time_seconds", "audio_embedding"):
        write_records(records / "eval" / "aa.tfrecord", whole.replace(name.encode(), b"x" * len(name)))
        with pytest.raises(DataError, match=f"aa.tfrecord is damaged.*a record without {name}"):
            datasets.load_clips("vggish", str(records), tmp_path, {})


def test_a_file_without_records_and_a_folder_are_refused(records, tmp_path):
    write_records(tmp_path / "empty" / "aa.tfrecord")
    with pytest.raises(DataError, match=r"no record with features in"):
        vggish.load_features(tmp_path / "empty")
    (records / "folder.tfrecord").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*folder.tfrecord.*must be a readable file"):
        vggish.load_features(records)


def test_reading_prints_nothing_and_initialises_no_device(records):
    code = (
        "import sys; from pathlib import Path; from genre.datasets import vggish\n"
        "assert 'tensorflow' not in sys.modules\n"
        f"vggish.load_features(Path({str(records)!r}))\n"
        "import tensorflow as tf\n"
        "tf.config.threading.set_inter_op_parallelism_threads(1)  # refused once devices are in use\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_files_of_other_content_are_refused(records, tmp_path):
    write_records(records / "eval" / "aa.tfrecord", b"\xff\xff not a message")
    with pytest.raises(DataError, match=r"aa.tfrecord is damaged, or holds no VGGish features"):
        datasets.load_clips("vggish", str(records), tmp_path, {})
    write_records(records / "eval" / "aa.tfrecord", example("evaluation1", 70, [1], some_seconds(5)[:, :64]))
    with pytest.raises(DataError, match=r"seconds of \[64\] values, not 128"):
        datasets.load_clips("vggish", str(records), tmp_path, {})
    with pytest.raises(DataError, match=r"no .tfrecord file in"):
        vggish.load_features(tmp_path / "nothing")


def test_records_that_tensorflow_builds_are_read(records, tmp_path):
    import tensorflow as tf

    def feature(**kind: list) -> tf.train.Feature:
        ((name, values),) = kind.items()
        types = {"bytes_list": tf.train.BytesList, "float_list": tf.train.FloatList, "int64_list": tf.train.Int64List}
        return tf.train.Feature(**{name: types[name](value=values)})

    seconds = some_seconds(9)
    context = {
        "video_id": feature(bytes_list=[b"-tensorflow"]),
        "labels": feature(int64_list=[0, CLASSES.index(TECHNO)]),
        "start_time_seconds": feature(float_list=[12.5]),
        "end_time_seconds": feature(float_list=[22.5]),
    }
    frames = tf.train.FeatureList(feature=[feature(bytes_list=[s.tobytes()]) for s in seconds])
    record = tf.train.SequenceExample(
        context=tf.train.Features(feature=context),
        feature_lists=tf.train.FeatureLists(feature_list={"audio_embedding": frames}),
    )
    with tf.io.TFRecordWriter(str(records / "eval" / "tf.tfrecord")) as writer:
        writer.write(record.SerializeToString())
    table = datasets.load_clips("vggish", str(records), tmp_path, {}).set_index("clip_id")
    assert table.loc["-tensorflow_12.5", ["genre", "end_s"]].tolist() == ["Techno", 22.5]
    values = datasets.load_source_features("vggish", str(records)).loc["-tensorflow_12.5"]
    np.testing.assert_allclose(values[:128], (seconds / 255 * 4 - 2).mean(axis=0), atol=1e-5)
