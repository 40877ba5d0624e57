import pickle
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from genre import ensemble, evaluate
from genre.errors import DataError, UsageError
from genre.files import read_json
from genre.inputs.features import PUBLISHED_FEATURE_NAMES
from genre.probabilities.tables import genres_of, labels_of, proba_of
from genre.studies import fetch, published_models, published_results

NAMES = [f"{n}_{genre.replace(' ', '_')}.wav" for n in range(6) for genre in published_results.GENRES]


def arrays(n: int = len(NAMES)) -> dict[str, np.ndarray]:
    """Probabilities of every published model, the network's for fewer clips."""
    rng = np.random.default_rng(0)
    found = {model: rng.dirichlet(np.ones(7), n).astype(np.float32) for model in published_results.PICKLE_FILES}
    return found | {"vgg16_fine_tune": found["vgg16_fine_tune"][:-2]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The author's folder, as Python 3.6 and NumPy 1.12 pickled it: protocol 3, by the name of that time."""
    place = tmp_path / "pred_probas"
    place.mkdir()
    (place / published_results.NAMES_FILE).write_text("\n".join(NAMES) + "\n")
    for model, p in arrays().items():
        data = pickle.dumps(p, protocol=2).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        (place / published_results.PICKLE_FILES[model]).write_bytes(data)
    return place


def test_published_scores(shared: Path):
    tables = published_results.read_probabilities(shared / "paper" / "test_probabilities.npz")
    for model, printed in published_results.TABLE_2.items():
        t = tables[model]
        scores = evaluate.compute_metrics(labels_of(t), proba_of(t), genres_of(t))
        found = [scores[key] for key in ("accuracy", "macro_f1", "macro_auc")]
        assert (np.abs(np.subtract(found, printed)) <= [0.0051, 0.0051, 0.00051]).all(), model
    assert [len(tables[m]) for m in ("xgboost", "vgg16_fine_tune", "ensemble")] == [2027, 2016, 2016]
    for a, b, p in (
        ("ensemble", "vgg16_fine_tune", 0.049),
        ("xgboost", "svm", 0.064),
        ("random_forest", "logistic_regression", 0.301),
    ):
        assert evaluate.mcnemar_test(tables[a], tables[b]) == pytest.approx(p, abs=6e-4)
    low, high = evaluate.confidence_intervals(tables["ensemble"])["macro_auc"]
    assert (low, high) == (pytest.approx(0.884, abs=0.002), pytest.approx(0.904, abs=0.002))
    members = [tables[m].loc[tables["ensemble"].index] for m in ("xgboost", "vgg16_fine_tune")]
    t = ensemble.combine_tables(members, "geometric")
    scores = evaluate.compute_metrics(labels_of(t), proba_of(t), genres_of(t))
    assert [round(scores[k], 4) for k in ("accuracy", "macro_f1", "macro_auc")] == [0.6543, 0.6286, 0.8978]


def test_folder_and_archive_hold_the_same(folder: Path, tmp_path: Path):
    np.savez(tmp_path / "p.npz", file_name=np.array(NAMES), **arrays())
    one = published_results.read_probabilities(folder)
    other = published_results.read_probabilities(tmp_path / "p.npz")
    assert set(one) == set(other) == set(published_results.TABLE_2)
    for model in one:
        pd.testing.assert_frame_equal(one[model], other[model])
    assert one["svm"]["genre"].astype(str).tolist() == list(published_results.GENRES) * 6
    np.testing.assert_allclose(one["svm"][list(published_results.GENRES)], arrays()["svm"], atol=1e-6)


class Calls:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def test_a_pickle_that_calls_something_is_refused(folder: Path, tmp_path: Path):
    (folder / "svm_classifier.pkl").write_bytes(pickle.dumps(Calls(tmp_path / "made")))
    with pytest.raises(DataError, match=r"svm_classifier.pkl is not a pickled array: it would call"):
        published_results.read_probabilities(folder)
    assert not (tmp_path / "made").exists()
    np.savez(tmp_path / "p.npz", file_name=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"cannot read .* as a NumPy archive"):
        published_results.read_probabilities(tmp_path / "p.npz")


def test_what_is_missing_is_named(folder: Path, tmp_path: Path):
    (folder / "xgb_classifier.pkl").unlink()
    with pytest.raises(DataError, match="lacks xgboost"):
        published_results.read_probabilities(folder)
    np.savez(tmp_path / "p.npz", file_name=np.array(NAMES), **(arrays() | {"svm": np.ones((3, 4))}))
    with pytest.raises(DataError, match=r"svm in .* has shape \(3, 4\)"):
        published_results.read_probabilities(tmp_path / "p.npz")


def as_published() -> pd.DataFrame:
    """A table of the published shape and counts, the printed rows among them."""
    names = [f"{n}_{g.replace(' ', '_')}.wav" for g, count in published_results.TABLE_1.items() for n in range(count)]
    for printed in published_results.PRINTED_ROWS:
        kind = printed.split("_", 1)[1]
        names[
            next(
                i for i, name in enumerate(names) if name.endswith(kind) and name not in published_results.PRINTED_ROWS
            )
        ] = printed
    table = pd.DataFrame(0.5, index=pd.Index(names), columns=list(PUBLISHED_FEATURE_NAMES), dtype="float32")
    for name, values in published_results.PRINTED_ROWS.items():
        table.loc[name, list(PUBLISHED_FEATURE_NAMES[:9])] = values
    return table


def test_checks_distinguish_the_published_table():
    table = as_published()
    names = table.index[100:120]
    assert (
        published_results.check_features(table, names)["ok"].all()
        and len(published_results.check_features(table, names)) == 14
    )
    table.loc["43654_Pop_music.wav", "tempo"] = 99
    table = table.drop(index=names[0])
    failed = published_results.check_features(table, names).set_index("check").query("not ok")
    assert set(failed.index) == {
        "rows and columns",
        "clips of Pop music",
        "row 43654_Pop_music.wav",
        "clips of the test set",
    }
    assert failed.loc["clips of the test set", "found"] == "19"


@pytest.fixture(scope="module")
def table() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    genre = np.array(["a", "b", "c"])[np.arange(150) % 3]
    X = rng.normal(size=(150, 97)).astype(np.float32)
    X[:, 0] += 3 * (genre == "b")
    X[:, 1] += 3 * (genre == "c")
    ids = [f"{n}" for n in range(150)]
    clips = pd.DataFrame({"clip_id": ids, "recording": ids, "genre": pd.Categorical(genre)})
    clips["split"] = np.array(["train", "train", "train", "validation", "test"])[np.arange(150) // 3 % 5]
    return clips, pd.DataFrame(X, columns=list(PUBLISHED_FEATURE_NAMES), index=ids)


@pytest.mark.parametrize("name", published_models.MODEL_NAMES)
def test_the_papers_models_learn_from_all_but_the_test(name: str, table):
    clips, X = table
    out = published_models.fit_published_model(name, clips, X)
    test = out[out["split"] == "test"]
    scores = evaluate.compute_metrics(labels_of(test), proba_of(test), genres_of(test))
    assert scores["macro_auc"] > 0.75
    if name == "catboost":  # seconds
        return
    turned = clips.assign(
        genre=clips["genre"].where(clips["split"] != "test", np.roll(clips["genre"].to_numpy(), 1)).astype("category")
    )
    again = published_models.fit_published_model(name, turned, X)
    np.testing.assert_allclose(proba_of(again), proba_of(out), atol=1e-9)
    with pytest.raises(UsageError, match="trains no 'mel_cnn'"):
        published_models.fit_published_model("mel_cnn", clips, X)


def test_the_papers_scaler_sees_the_test_set(table):
    clips, X = table
    stretched = X.copy()
    stretched.iloc[np.flatnonzero(clips["split"] == "test")[0]] = 1000.0
    train = (clips["split"] == "train").to_numpy()
    out = [
        proba_of(published_models.fit_published_model("logistic_regression", clips, x))[train] for x in (X, stretched)
    ]
    assert np.abs(out[0] - out[1]).max() > 0.1


@pytest.fixture
def server(tmp_path: Path):
    """A web server over a folder of its own."""
    root = tmp_path / "web"
    root.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    handler.log_message = lambda *_: None
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=httpd.serve_forever, daemon=True).start()
    yield root, f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()


def test_a_url_is_fetched_once_and_must_not_change(server, tmp_path: Path):
    root, url = server
    (root / "table.csv").write_text("first")
    directory = tmp_path / "downloads"
    path = fetch.fetch_file(f"{url}/table.csv", directory)
    assert path.read_text() == "first" and path.name.endswith("-table.csv")
    assert len(read_json(directory / "sha256.json")[f"{url}/table.csv"]) == 64
    (root / "table.csv").write_text("second")
    assert fetch.fetch_file(f"{url}/table.csv", directory).read_text() == "first"
    path.unlink()
    with pytest.raises(DataError, match=r"was a7937b64b8ca… \(SHA-256\) and is now 16367aacb67a…"):
        fetch.fetch_file(f"{url}/table.csv", directory)
    path.write_text("tampered with")
    with pytest.raises(DataError, match="SHA-256"):
        fetch.fetch_file(f"{url}/table.csv", directory)


def test_a_failed_download_is_an_error(server, tmp_path: Path):
    _, url = server
    with pytest.raises(DataError, match="download it yourself"):
        fetch.fetch_file(f"{url}/missing.csv", tmp_path)
    with pytest.raises(DataError, match="there is no"):
        fetch.fetch_file(str(tmp_path / "missing.csv"), tmp_path)
    assert fetch.fetch_file(str(tmp_path), tmp_path / "downloads") == tmp_path.resolve()
