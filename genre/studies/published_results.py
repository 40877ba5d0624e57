"""Published results of the paper: numbers, the features table, the test set's probabilities.

Bahuleyan 2018, arXiv 1804.01149, and the repository HareeshBahuleyan/music-genre-classification (MIT licence).
"""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from genre import ensemble
from genre.datasets import published
from genre.errors import DataError
from genre.probabilities.tables import probability_table


class PublishedScores(NamedTuple):
    """Scores of a model in table 2, all 0 to 1."""

    accuracy: float
    macro_f1: float
    macro_auc: float


#: Table 2. Its transfer learning was most likely never frozen, and has no published probabilities.
TABLE_2 = {
    "logistic_regression": PublishedScores(0.53, 0.47, 0.822),
    "random_forest": PublishedScores(0.54, 0.48, 0.840),
    "svm": PublishedScores(0.57, 0.52, 0.856),
    "xgboost": PublishedScores(0.59, 0.55, 0.865),
    "vgg16_fine_tune": PublishedScores(0.64, 0.61, 0.889),
    "ensemble": PublishedScores(0.65, 0.62, 0.894),
}

#: The ablations, all with XGBoost (section 6, and notebook 5).
ABLATIONS = {
    "all features": PublishedScores(0.59, 0.55, 0.865),
    "time domain": PublishedScores(0.40, 0.34, 0.731),
    "frequency domain": PublishedScores(0.57, 0.53, 0.857),
    "top 10": PublishedScores(0.47, 0.42, 0.803),
    "top 20": PublishedScores(0.52, 0.48, 0.837),
    "top 30": PublishedScores(0.55, 0.51, 0.845),
}

#: Table 1: clips by genre, as the file names spell it.
TABLE_1 = {
    "Pop music": 8100,
    "Rock music": 7990,
    "Hip hop music": 6958,
    "Techno": 6885,
    "Rhythm blues": 4247,
    "Vocal": 3363,
    "Reggae": 2997,
}

#: First nine features of the rows that notebook 5 prints.
PRINTED_ROWS = {
    "38359_Rock_music.wav": (0.291, 0.350, 0.553, -0.679, 0.261, 0.050, 0.349, 0.030, 107.666),
    "50194_Rock_music.wav": (0.222, 0.278, 0.990, -0.015, 0.134, 0.027, 0.276, 0.030, 135.999),
    "24275_Hip_hop_music.wav": (0.174, 0.232, 1.326, 0.876, 0.253, 0.061, 0.223, 0.065, 143.555),
    "43654_Pop_music.wav": (0.306, 0.373, 0.607, -0.578, 0.084, 0.043, 0.370, 0.051, 123.047),
    "41609_Rock_music.wav": (0.237, 0.298, 1.004, 0.021, 0.165, 0.062, 0.294, 0.047, 123.047),
}

#: The author's own files of probabilities, in his folder ``pred_probas`` beside ``testset_filenames.txt``.
PICKLE_FILES = {
    "logistic_regression": "lr_classifier.pkl",
    "random_forest": "rf_classifier.pkl",
    "svm": "svm_classifier.pkl",
    "xgboost": "xgb_classifier.pkl",
    "vgg16_fine_tune": "vgg_fine_tuning.pkl",
}
NAMES_FILE = "testset_filenames.txt"

#: Columns of the published probabilities.
GENRES = ("Hip hop music", "Pop music", "Vocal", "Rhythm blues", "Reggae", "Rock music", "Techno")


def read_probabilities(source: Path) -> dict[str, pd.DataFrame]:
    """Read the published probabilities of the test set as probability tables, with the ensemble made of them.

    Parameters
    ----------
    source : Path
        The author's folder ``pred_probas``, or a NumPy archive with ``file_name`` [shape=(n,)] and one array
        [shape=(m, 7)] for each model, m at most n: the networks were scored on the first 2,016 of the 2,027.

    Returns
    -------
    dict
        Model, as in `TABLE_2`, to probability table; ``ensemble`` is the mean of XGBoost and VGG-16, as published.

    Raises
    ------
    DataError
        If files or arrays are missing or of another kind.
    """
    arrays = _read_pickles(source) if source.is_dir() else _read_archive(source)
    names = pd.Series([str(name) for name in arrays["file_name"]])
    genre = published.parse_genres(names)
    tables = {
        model: probability_table(
            pd.Index(names[: len(p)]), "test", genre[: len(p)], names[: len(p)], np.asarray(p), GENRES
        )
        for model, p in arrays.items()
        if model in TABLE_2
    }
    pair = [tables[m].loc[tables["vgg16_fine_tune"].index] for m in ("xgboost", "vgg16_fine_tune")]
    return tables | {"ensemble": ensemble.combine_tables(pair, "arithmetic")}


def check_features(features: pd.DataFrame, test_names: pd.Index | None = None) -> pd.DataFrame:
    """Check whether a features table is the published one.

    Parameters
    ----------
    features : pd.DataFrame
        Indexed by file name, 97 columns.
    test_names : pd.Index, optional
        File names of the published test set, all of which must be in it.

    Returns
    -------
    pd.DataFrame
        One row per check: ``check``, ``expected``, ``found``, ``ok``.
    """
    counts = published.parse_genres(features.index.to_series()).value_counts()
    rows: list[tuple[str, Any, Any]] = [
        ("rows and columns", "40540 x 98", f"{len(features)} x {features.shape[1] + 1}")
    ]
    rows += [(f"clips of {genre}", n, int(counts.get(genre, 0))) for genre, n in TABLE_1.items()]
    for name, values in PRINTED_ROWS.items():
        found = features.loc[name].iloc[:9].to_numpy() if name in features.index else None
        same = found is not None and np.allclose(found, values, atol=5e-4)
        rows.append((f"row {name}", "as printed", "as printed" if same else "missing" if found is None else "other"))
    if test_names is not None:
        rows.append(("clips of the test set", len(test_names), int(test_names.isin(features.index).sum())))
    table = pd.DataFrame(rows, columns=["check", "expected", "found"])
    return table.assign(ok=table["expected"] == table["found"]).astype({"expected": str, "found": str})


def _read_archive(source: Path) -> dict[str, Any]:
    """Read the arrays of a NumPy archive; pickled objects are refused."""
    try:
        with np.load(source, allow_pickle=False) as archive:
            return _check_complete({name: archive[name] for name in archive.files}, source)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {source} as a NumPy archive: {error}") from None


def _read_pickles(source: Path) -> dict[str, Any]:
    """Read the arrays of the author's pickles, and the list of file names."""
    names = source / NAMES_FILE
    arrays: dict[str, Any] = {"file_name": names.read_text().split()} if names.is_file() else {}
    for model, file in PICKLE_FILES.items():
        if (source / file).is_file():
            with (source / file).open("rb") as opened:
                try:
                    arrays[model] = _ArrayUnpickler(opened, encoding="latin1").load()
                except (pickle.UnpicklingError, EOFError, ValueError) as error:
                    raise DataError(f"{source / file} is not a pickled array: {error}") from None
    return _check_complete(arrays, source)


def _check_complete(arrays: dict[str, Any], source: Path) -> dict[str, Any]:
    needed = {"file_name", *PICKLE_FILES}
    if missing := sorted(needed - set(arrays)):
        raise DataError(f"{source} lacks {', '.join(missing)}; give the folder pred_probas or an archive of its arrays")
    for model in PICKLE_FILES:
        shape = np.shape(arrays[model])
        if len(shape) != 2 or shape[1] != len(GENRES) or not 0 < shape[0] <= len(arrays["file_name"]):
            raise DataError(f"{model} in {source} has shape {shape}; expected at most {len(arrays['file_name'])} x 7")
    return arrays


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that accepts NumPy arrays only: a pickle can name any function to be called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.replace("numpy._core", "numpy.core"), name) not in {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }:
            raise pickle.UnpicklingError(f"it would call {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
