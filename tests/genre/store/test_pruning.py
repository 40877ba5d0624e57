"""Old files of a data set: which may be removed, and which may not."""

import os
import time

import pandas as pd
import pytest

from genre.config import AudioConfig
from genre.files import write_json, write_table
from genre.store import pruning
from genre.workspace import Workspace, weights_dir


@pytest.fixture
def workspace(home) -> Workspace:
    return Workspace("music")


def train(
    workspace: Workspace, model: str, *, data: str, splits: str = "s", age_s: float, is_done: bool = True
) -> None:
    folder = workspace.directory / "trainings" / f"{model}-{data}"
    write_json(folder / "job.json", {"data_digest": data, "splits_digest": splits, "config": {"sr": 22050}})
    if is_done:
        path = write_json(folder / "result.json", {"fit_seconds": 1.0})
        os.utime(path, (time.time() - age_s, time.time() - age_s))


def names(items: list[pruning.PrunableItem], kind: str) -> list[str]:
    return [item.path.name for item in items if item.kind == kind]


def test_trainings_on_earlier_data_are_old_and_all_on_the_present_data_are_kept(workspace):
    train(workspace, "svm", data="before", age_s=300)
    train(workspace, "svm", data="now", age_s=200)
    train(workspace, "catboost", data="now", age_s=100)
    train(workspace, "mel_cnn", data="before", age_s=0, is_done=False)  # resumed by the next training of its job
    assert names(pruning.list_prunable(workspace), "training") == ["svm-before"]


def test_stores_parts_figures_searches_and_temporary_files_that_nothing_reads_are_old(workspace):
    store = workspace.store_dir(AudioConfig())
    parts = ["part-0123456789abcdef", "part-modulations-v1-0123456789abcdef"]
    old_parts = ["part-modulations-v0-0123456789abcdef", "part-embeddings-v1-ffffffffffff-0123456789abcdef"]
    for name in parts + old_parts:
        write_table(store / f"{name}.parquet", pd.DataFrame({"a": [1]}))
        (store / f"{name}.npy").touch()
    (workspace.directory / "store" / "corrected-0123").mkdir()
    (workspace.directory / "derived" / "key").mkdir(parents=True)
    (workspace.directory / "derived" / "key" / "figure.png").write_bytes(b"1234")
    for n, key in enumerate(("first", "second")):
        os.utime(write_table(workspace.duplicates_path(key), pd.DataFrame({"a": [1]})), (n, n))
    weights_dir().mkdir()
    for name in ("old.tmp", "new.tmp", "weights.npz"):
        (weights_dir() / name).touch()
    for name in ("old.tmp", "weights.npz"):
        os.utime(weights_dir() / name, (0, 0))
    items = pruning.list_prunable(workspace)
    assert names(items, "store") == ["corrected-0123"]
    assert sorted(names(items, "part of a store")) == sorted(f"{p}.{s}" for p in old_parts for s in ("npy", "parquet"))
    assert [(item.path.name, item.n_bytes) for item in items if item.kind.startswith("derived")] == [("key", 4)]
    assert names(items, "search for duplicates") == ["first.parquet"]
    assert names(items, "temporary file") == ["old.tmp"]


def test_a_data_set_without_anything_has_nothing_to_prune(workspace):
    assert pruning.list_prunable(workspace) == []
