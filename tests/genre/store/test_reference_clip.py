"""Reference values of this installation, against those of when FEATURES_VERSION was last raised.

After an intended change of the output, raise `FEATURES_VERSION` in genre/config.py and write the new numbers with

    python -m tests.genre.store.test_reference_clip
"""

import json
import re

import pytest

from genre.config import FEATURES_VERSION, AudioConfig, Variant, library_versions
from genre.errors import DataError
from genre.store import reference_clip
from tests.support.project import ROOT

GOLDEN = ROOT / "tests" / "golden" / "probe.json"
VARIANTS: tuple[Variant, ...] = ("corrected", "paper")


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.fixture(scope="module")
def values() -> dict[str, float]:
    return reference_clip.compute_reference(AudioConfig())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_output_has_not_changed_without_its_version(golden, variant):
    assert golden["features_version"] == FEATURES_VERSION, (
        "write the new numbers: python -m tests.genre.store.test_reference_clip"
    )
    apart = reference_clip.find_differences(
        reference_clip.compute_reference(AudioConfig(variant=variant)), golden[variant]
    )
    assert not apart, f"raise FEATURES_VERSION, or undo; libraries then: {golden['versions']}"


def test_a_changed_resampler_or_feature_is_seen(values):
    other = reference_clip.compute_reference(AudioConfig(resampler="soxr_mq"))
    assert len(reference_clip.find_differences(other, values)) > 5
    assert list(reference_clip.find_differences(values | {"tempo": 60.0}, values)) == ["tempo"]
    assert list(reference_clip.find_differences({k: v for k, v in values.items() if k != "tempo"}, values)) == ["tempo"]
    assert not reference_clip.find_differences({k: v * (1 + 1e-5) for k, v in values.items()}, values)


def test_a_store_takes_only_what_computes_the_same(tmp_path):
    config = AudioConfig()
    reference_clip.check_reference(config, tmp_path)
    reference_clip.check_reference(config, tmp_path)
    path = tmp_path / "probe.json"
    left = json.loads(path.read_text())
    left["versions"]["numba"] = "0.9"
    left["values"]["rmse_mean"] *= 1.05
    path.write_text(json.dumps(left))
    numba = re.escape(library_versions()["numba"])
    sentence = f"reference clip gives rmse_mean = .*, store has .*numba 0.9 is now {numba}.*FEATURES_VERSION"
    with pytest.raises(DataError, match=sentence):
        reference_clip.check_reference(config, tmp_path)


def test_another_version_that_computes_the_same_is_welcome(tmp_path, values):
    (tmp_path / "probe.json").write_text(json.dumps({"versions": {"numpy": "1.0"}, "values": values}))
    reference_clip.check_reference(AudioConfig(), tmp_path)


if __name__ == "__main__":
    numbers = {variant: reference_clip.compute_reference(AudioConfig(variant=variant)) for variant in VARIANTS}
    GOLDEN.write_text(
        json.dumps({"features_version": FEATURES_VERSION, "versions": library_versions()} | numbers, indent=1)
    )
