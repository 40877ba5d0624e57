"""Prediction of one file of a library by a model of any version."""

from typing import Any

import pandas as pd
import pytest

from serving.isolated.library import predict_file

ROW = {"genre": "low", "confidence": 0.8, "probabilities": {"low": 0.8, "high": 0.2}, "error": None}


class FixedModel:
    """Model that returns one row for any audio."""

    def __init__(self, row: dict[str, Any]) -> None:
        self._row = row

    def predict(self, data: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame([self._row], dtype=object, index=data.index)


@pytest.mark.parametrize(
    ("row", "note"),
    [
        (ROW, None),  # from a model that was logged before there were notes
        (ROW | {"note": None}, None),
        (ROW | {"note": "the louder channel was analysed"}, "the louder channel was analysed"),
    ],
)
def test_the_note_of_a_model_is_handed_on_if_there_is_one(tmp_path, row, note):
    path = tmp_path / "a.wav"
    path.write_bytes(b"audio")
    assert predict_file(FixedModel(row), str(path)) == {"path": str(path)} | ROW | {"note": note}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "silent", "message": "no sound"}, {"code": "silent", "message": "no sound"}),
        ("no sound", {"code": "refused", "message": "no sound"}),
    ],
)
def test_an_error_comes_without_genre_and_note(tmp_path, error, expected):
    (tmp_path / "a.wav").write_bytes(b"audio")
    prediction = predict_file(FixedModel({"error": error}), str(tmp_path / "a.wav"))
    assert prediction["error"] == expected
    assert prediction["genre"] is prediction["note"] is None
