"""Reference values of this installation, against those of when FEATURES_VERSION was last raised.

After an intended change of the output, raise `FEATURES_VERSION` in genre/config.py and write the new numbers with

    python -m tests.genre.store.test_reference_clip

which refuses to if fingerprints change, and `SOUNDS_VERSION` in genre/splits/sounds.py is not raised as well.
"""

import json
import re
import sys

import pytest

from genre.config import FEATURES_VERSION, AudioConfig, Variant, library_versions
from genre.errors import DataError
from genre.splits.duplicates import ROBUST_FEATURES
from genre.splits.sounds import SOUNDS_VERSION
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


def test_the_fingerprints_have_not_changed_without_their_version(golden):
    assert golden["sounds_version"] == SOUNDS_VERSION
    assert not has_other_sounds(golden, golden)
    for name in ("mel_3", "chroma_stft_2_std"):
        assert has_other_sounds(golden, golden | {"paper": golden["paper"] | {name: golden["paper"][name] + 1}})
    assert not has_other_sounds(golden, golden | {"paper": golden["paper"] | {"tempo": 60.0, "new_feature": 1.0}})


def has_other_sounds(one: dict, other: dict) -> bool:
    """Return whether reference values differ in what a fingerprint is made of."""
    apart = {n for variant in VARIANTS for n in reference_clip.find_differences(one[variant], other[variant])}
    return any(name in ROBUST_FEATURES or name.startswith("mel_") for name in apart)


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
    before = json.loads(GOLDEN.read_text())
    if before["sounds_version"] == SOUNDS_VERSION and has_other_sounds(before, numbers):
        sys.exit("fingerprints change: raise SOUNDS_VERSION in genre/splits/sounds.py")
    versions = {"features_version": FEATURES_VERSION, "sounds_version": SOUNDS_VERSION, "versions": library_versions()}
    GOLDEN.write_text(json.dumps(versions | numbers, indent=1))
