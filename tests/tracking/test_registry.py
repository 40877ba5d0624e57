from pathlib import Path

import mlflow
import pytest
import yaml

from genre.errors import GenreError
from serving.deploy.release import download_release
from tracking import registry


@pytest.fixture
def broken_download(monkeypatch):
    """A store that stops answering when half of a model has been sent."""

    def download(uri, dst_path):
        Path(dst_path).mkdir(parents=True)
        Path(dst_path, "MLmodel").write_text("half")
        raise OSError("connection lost")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)


def test_a_half_download_leaves_nothing(broken_download, tmp_path):
    with pytest.raises(GenreError, match=r"^cannot download models:/genre/3: connection lost$"):
        registry.download_model("models:/genre/3", tmp_path / "models" / "a")
    assert not list((tmp_path / "models").iterdir())


def test_a_half_release_leaves_nothing(broken_download, tmp_path):
    with pytest.raises(GenreError, match="cannot download models:/genre/3"):
        download_release("genre", "3", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_download_is_renamed_when_it_is_complete(monkeypatch, tmp_path):
    def download(uri, dst_path):
        Path(dst_path).mkdir()
        Path(dst_path, "MLmodel").write_text(uri)
        assert not (tmp_path / "model").exists()
        return dst_path

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    assert registry.download_model("models:/genre/3", tmp_path / "model", any_code=True) == tmp_path / "model"
    assert (tmp_path / "model" / "MLmodel").read_text() == "models:/genre/3"
    meta = yaml.safe_load((tmp_path / "model" / "registered_model_meta").read_text())
    assert meta == {"model_name": "genre", "model_version": "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
