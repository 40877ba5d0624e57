"""Contract of every input in the registry."""

import numpy as np
import pytest

from genre.config import AudioConfig
from genre.errors import AudioError, UsageError
from genre.inputs import BASE_INPUTS, INPUTS, column_names, compute_inputs, get_input, is_vector
from genre.models import MODELS
from genre.store import parts
from tests.support.network import random_weights
from tests.support.sounds import tone

CONFIG = AudioConfig()
WEIGHTS = {"musicnn.npz": random_weights()}
EVERY_INPUT = pytest.mark.parametrize("name", INPUTS)


@pytest.fixture(scope="module")
def values() -> dict[str, np.ndarray]:
    return compute_inputs(tone(10, hz=300), CONFIG, INPUTS, WEIGHTS)


@EVERY_INPUT
def test_values_have_the_shape_and_type_of_the_entry(name, values):
    entry = get_input(name)
    assert entry.name == name
    assert values[name].shape == entry.shape(CONFIG)
    assert values[name].dtype == entry.dtype
    assert np.isfinite(values[name]).all()


@EVERY_INPUT
def test_an_input_computed_alone_is_the_same_to_the_last_digit(name, values):
    alone = compute_inputs(tone(10, hz=300), CONFIG, [name], WEIGHTS)
    assert list(alone) == [name]
    np.testing.assert_array_equal(alone[name], values[name])


@EVERY_INPUT
@pytest.mark.parametrize("seconds", [1.0, 3.3])
def test_a_short_clip_has_values_of_the_same_shape(name, seconds):
    short = compute_inputs(tone(seconds, hz=300), CONFIG, [name], WEIGHTS)[name]
    assert short.shape == get_input(name).shape(CONFIG)


@EVERY_INPUT
def test_the_summary_is_named_numbers_that_follow_the_values(name, values):
    module = get_input(name).module
    summary = module.summarise(values[name])
    assert summary and all(isinstance(key, str) and np.isfinite(value) for key, value in summary.items())
    other = compute_inputs(tone(10, hz=500, seed=1), CONFIG, [name], WEIGHTS)[name]
    assert module.summarise(other) != summary


@EVERY_INPUT
def test_packed_values_come_back(name, values):
    module = get_input(name).module
    assert hasattr(module, "pack") == hasattr(module, "unpack")
    if hasattr(module, "pack"):
        several = np.stack([values[name], values[name][..., ::-1]])
        np.testing.assert_array_equal(module.unpack(module.pack(several)), several)


def test_columns_of_vectors_are_named_once():
    vectors = [name for name in INPUTS if is_vector(name)]
    names = column_names(vectors)
    assert len(names) == len(set(names)) == sum(get_input(name).shape(CONFIG)[0] for name in vectors)


def test_every_build_computes_one_array_whose_file_lies_beside_the_index():
    assert [name for name in BASE_INPUTS if not is_vector(name)] == [parts.array_input(parts.BASE)]


@EVERY_INPUT
def test_an_input_is_derived_from_one_that_every_build_stores_as_an_array(name):
    entry = get_input(name)
    if entry.derived_from:
        assert entry.derived_from == parts.array_input(parts.BASE)
        assert not entry.in_every_build and not entry.weights_file


@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_one_input_of_the_registry_or_several_vectors(model):
    names = MODELS[model].input_names
    assert set(names) <= set(INPUTS) and len(set(names)) == len(names)
    assert len(names) == 1 or all(is_vector(name) for name in names)


def test_an_unknown_input_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="unknown input 'smell'; choose from embeddings, features, modulations"):
        compute_inputs(tone(1, hz=300), CONFIG, ["smell"])


def test_audio_that_cannot_be_analysed_is_refused():
    with pytest.raises(AudioError, match="NaN"):
        compute_inputs(np.full(22050, np.nan, np.float32), CONFIG)
    with pytest.raises(AudioError, match="no samples"):
        compute_inputs(np.empty(0, np.float32), CONFIG)
