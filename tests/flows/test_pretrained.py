"""Registration of the pretrained network, and the champions that it replaces and that replace it."""

import base64
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from prefect.logging import disable_run_logger

from flows.decisions import PromotionDecision, PromotionOutcome
from flows.pretrained import register_pretrained
from genre.models import musicnn_tags
from genre.workspace import Workspace
from tests.support.network import random_weights
from tests.support.place import Place
from tests.support.servers import served
from tests.support.sounds import write_music
from tracking import aliases, registry


@pytest.fixture
def parent(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch):
    """Id of a run in an MLflow store of this test."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = MlflowClient().create_experiment("mine", artifact_location=(tmp_path / "artifacts").as_uri())
    yield MlflowClient().create_run(experiment).info.run_id
    mlflow.set_tracking_uri(before)


def register(weights: Path, parent: str) -> PromotionDecision:
    with disable_run_logger():
        decision: PromotionDecision = register_pretrained.fn(Workspace("pretrained"), weights, "genre", parent)
    return decision


def make_champion(parent: str, **tags: str) -> str:
    """Register a version with these tags and make it the champion."""
    client = MlflowClient()
    if not client.search_registered_models("name = 'genre'"):
        client.create_registered_model("genre")
    version = client.create_model_version("genre", "here", parent, tags=tags)
    aliases.promote_version("genre", version, registry.find_version_by_alias("genre", "champion"))
    return str(version.version)


def champion() -> str:
    version = registry.find_version_by_alias("genre", "champion")
    assert version
    return str(version.version)


def test_the_first_one_is_promoted_once(parent, network_path):
    first = register(network_path, parent)
    assert first == PromotionDecision(PromotionOutcome.PROMOTED, "version 1 of genre: promoted")
    again = register(network_path, parent)
    assert again.outcome is PromotionOutcome.UNCHANGED and "already version 1 of genre" in again.sentence
    version = registry.find_version_by_alias("genre", "champion")
    assert version and version.tags["pretrained"] == "true" and version.tags["synthetic"] == "false"
    assert "Last.fm" in version.description and "no classical music" in version.description
    assert len(version.description) <= 5000
    run = MlflowClient().get_run(version.run_id)
    assert "LICENSE-musicnn.md" in [file.path for file in MlflowClient().list_artifacts(run.info.run_id)]


def test_other_weights_are_another_version(parent, network_path, tmp_path):
    from genre.inputs.musicnn import save_weights

    register(network_path, parent)
    save_weights(tmp_path / "other.npz", random_weights(seed=1))
    decision = register(tmp_path / "other.npz", parent)
    assert decision.outcome is PromotionOutcome.PROMOTED and champion() == "2"


def test_a_champion_of_the_demo_gives_way(parent, network_path):
    make_champion(parent, synthetic="true", genres="[]")
    assert register(network_path, parent).sentence.startswith("version 2 of genre: promoted over version 1")
    assert champion() == "2"


def test_a_version_that_was_rolled_back_is_not_promoted_again(parent, network_path):
    make_champion(parent, synthetic="true")
    register(network_path, parent)
    aliases.roll_back("genre")
    decision = register(network_path, parent)
    assert decision.outcome is PromotionOutcome.UNCHANGED and "(rolled back on " in decision.sentence
    assert champion() == "1"


def test_a_champion_trained_on_real_music_stays(parent, network_path):
    make_champion(parent, synthetic="false", genres="[]")
    decision = register(network_path, parent)
    assert decision.outcome is PromotionOutcome.REFUSED and champion() == "1"
    assert "version 1, the champion, was trained on music of its own" in decision.sentence
    again = register(network_path, parent)
    assert again.outcome is PromotionOutcome.UNCHANGED and champion() == "1"


def test_it_is_not_promoted_while_the_model_is_on_hold(parent, network_path):
    make_champion(parent, synthetic="true", genres="[]")
    make_champion(parent, synthetic="true", genres="[]")
    aliases.roll_back("genre")
    decision = register(network_path, parent)
    assert decision.outcome is PromotionOutcome.UNDECIDED and "genre is on hold" in decision.sentence
    assert champion() == "1"


def test_it_does_not_take_the_place_of_a_champion_that_is_gone(parent, network_path):
    make_champion(parent, synthetic="false", genres="[]")
    MlflowClient().delete_registered_model_alias("genre", "champion")
    for _ in range(2):
        decision = register(network_path, parent)
        assert decision.outcome is PromotionOutcome.UNDECIDED
        assert "its last one may have been version 1; nothing is decided" in decision.sentence
        assert registry.find_version_by_alias("genre", "champion") is None


@pytest.mark.parametrize(
    ("tags", "expected"),
    [({"synthetic": "true"}, True), ({"pretrained": "true"}, True), ({"synthetic": "false"}, False)],
)
def test_only_a_champion_without_music_of_the_owners_gives_way(parent, tags, expected):
    make_champion(parent, **tags)
    version = registry.find_version_by_alias("genre", "champion")
    assert version and registry.gives_way(version) is expected


def test_its_version_is_served_without_the_weights_and_gives_way_to_a_model_of_the_owners(
    tmp_path, prefect_server, network_path, music, monkeypatch
):
    place = Place(tmp_path, prefect_server)
    assert "version 1 of genre: promoted" in place.run("pretrained", "--weights", str(network_path))
    audio = base64.b64encode((music / "high" / "0.wav").read_bytes()).decode()
    (tmp_path / "empty").mkdir()
    with served("models:/genre/1", tmp_path / "empty", MLFLOW_TRACKING_URI=place.env["MLFLOW_TRACKING_URI"]) as url:
        response = requests.post(f"{url}/invocations", json={"dataframe_records": [{"audio": audio}]}, timeout=60)
    [answer] = response.json()["predictions"]
    assert answer["error"] is None and answer["warning"] is None and answer["model_version"] == "genre/1"
    assert set(answer["probabilities"]) == set(musicnn_tags.TAGS_BY_GENRE)
    more = write_music(tmp_path / "own", genres={"high": 880.0, "low": 110.0}, tracks=26)
    own = ("--dataset", "folder", "--source", str(more), "--model", "logistic_regression")
    output = place.run("retrain", *own)
    assert "promoted over a champion that was not trained on music of yours, uncompared" in output
    assert place.alias("champion") == 2
    drift = place.start("drift", *own[:4], "--log", str(tmp_path / "empty"))
    assert drift.communicate(timeout=300)[0]


def test_it_cannot_be_trained(tmp_path, prefect_server):
    process = Place(tmp_path, prefect_server).start("train", "--model", "musicnn_tags")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "musicnn_tags is not trained: register it as it is by -e pretrained" in output


def test_a_clip_has_the_genre_of_its_tags():
    import numpy as np

    from genre.inputs.musicnn import MSD_TAGS

    table = musicnn_tags.TAGS_BY_GENRE
    X = np.full((4, 1556), 0.01)
    for row, tags in enumerate((["jazz"], ["House", "electro"], ["jazz", "instrumental"], ["sad"])):
        for tag in tags:
            X[row, 1506 + MSD_TAGS.index(tag)] = 0.6
    proba = musicnn_tags.predict_proba(table, X)
    np.testing.assert_allclose(proba.sum(axis=1), 1)
    genres = [list(table)[k] for k in proba.argmax(axis=1)]
    assert genres[:3] == ["Jazz", "Electronic", "Jazz"]
    assert proba[2].max() < 0.5 < proba[0].max()  # what is instrumental may be outside of all genres


def test_the_genres_are_names_that_players_know_of_tags_that_the_network_gives():
    from mutagen.id3 import TCON

    from genre.inputs.musicnn import MSD_TAGS

    assert set(musicnn_tags.TAGS_BY_GENRE) <= set(TCON.GENRES)
    named = [tag for tags in musicnn_tags.TAGS_BY_GENRE.values() for tag in tags]
    assert len(named) == len(set(named)) and {*named, musicnn_tags.OUTSIDE_TAG} <= set(MSD_TAGS)
