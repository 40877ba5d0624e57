"""GTZAN, from a small imitation."""

import shutil
from pathlib import Path

import pytest
import soundfile as sf

from genre import datasets
from genre.datasets import gtzan
from genre.errors import DataError
from genre.splits import assignment
from tests.support.sounds import tone


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two genres of four excerpts of thirty seconds; one excerpt repeats another with a different header."""
    folder = tmp_path_factory.mktemp("gtzan")
    for genre, hz in (("blues", 110), ("jazz", 440)):
        (folder / "genres" / genre).mkdir(parents=True)
        for n in range(4):
            y = tone(30, hz=hz * (1 + 0.02 * n), seed=n, sr=8000)
            sf.write(folder / "genres" / genre / f"{genre}.{n:05d}.wav", y, 8000, subtype="PCM_16")
    y, sr = sf.read(folder / "genres" / "blues" / "blues.00001.wav", dtype="int16")
    sf.write(folder / "genres" / "jazz" / "jazz.00003.au", y, sr, subtype="PCM_16")
    (folder / "genres" / "jazz" / "jazz.00003.wav").unlink()
    return folder


def write_lists(folder: Path, excerpts: dict[str, list[str]]) -> str:
    for split, names in excerpts.items():
        (folder / f"{split}_filtered.txt").write_text("\n".join(names) + "\n")
    return str(folder)


def test_excerpts_are_cut_and_repeated_ones_are_marked_as_duplicates(corpus, tmp_path):
    table = datasets.load_clips("gtzan", str(corpus), tmp_path, {}).set_index("recording")
    assert table["genre"].value_counts().to_dict() == {"blues": 12, "jazz": 12}
    assert (table["dataset"] == "gtzan").all()
    assert table["split"].isna().all()
    repeated = table[table["status"] != "pending"]
    assert set(repeated.index) == {"jazz/jazz.00003.au"}
    assert set(repeated["status"]) == {"duplicate"}
    assert set(repeated["reason"]) == {"sample for sample the same as blues/blues.00001.wav"}


def test_a_damaged_excerpt_is_a_row_with_its_reason(corpus, tmp_path):
    shutil.copytree(corpus, tmp_path / "gtzan")
    for name in ("00054", "00055"):  # 00054 is damaged in many downloads; two damaged files are not duplicates
        (tmp_path / "gtzan" / "genres" / "jazz" / f"jazz.{name}.wav").write_bytes(b"not audio")
    table = datasets.load_clips("gtzan", str(tmp_path / "gtzan"), tmp_path, {}).set_index("recording")
    assert table.loc["jazz/jazz.00054.wav", "status"] == table.loc["jazz/jazz.00055.wav", "status"] == "undecodable"


def test_the_fault_filtered_lists_select_and_split_the_excerpts(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(gtzan, "SPLIT_SIZES", {"train": 3, "validation": 2, "test": 2})
    excerpts = {
        "train": ["blues/blues.00000.wav", "jazz/jazz.00000.wav", "blues/blues.00003.wav"],
        "valid": ["blues/blues.00001.wav", "jazz/jazz.00001.wav"],
        "test": ["blues/blues.00002.wav", "jazz/jazz.00002.wav"],
    }
    options = {"lists": write_lists(tmp_path, excerpts)}
    table = datasets.load_clips("gtzan", str(corpus / "genres"), tmp_path, options)
    assert assignment.published_splits(table)["split"].value_counts().to_dict() == {
        "train": 3,
        "validation": 2,
        "test": 2,
    }
    assert (table["status"] == "pending").all()
    monkeypatch.undo()
    with pytest.raises(DataError, match=r"the fault-filtered ones name {'train': 443, 'validation': 197, 'test': 290}"):
        datasets.load_clips("gtzan", str(corpus), tmp_path, options)
    monkeypatch.setattr(gtzan, "SPLIT_SIZES", {"train": 3, "validation": 2, "test": 2})
    write_lists(tmp_path, {"test": ["blues/blues.00002.wav", "jazz/jazz.00077.wav"]})
    with pytest.raises(DataError, match=r"name jazz.00077, and 0 more, that are not in the source"):
        datasets.load_clips("gtzan", str(corpus), tmp_path, options)
    (tmp_path / "test_filtered.txt").unlink()
    with pytest.raises(DataError, match=r"there is no .*test_filtered.txt"):
        datasets.load_clips("gtzan", str(corpus), tmp_path, options)
