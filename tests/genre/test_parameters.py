import pytest

from genre import parameters
from genre.errors import UsageError


def example(data, *, depth: int = 5, rate: float = 0.1, name: str = "a", on: bool = True, anything=None):
    return data, depth, rate, name, on, anything


DEFAULTS = {"depth": 5, "rate": 0.1, "name": "a", "on": True, "anything": None}


def test_defaults_are_the_keyword_only_arguments():
    assert parameters.keyword_defaults(example) == DEFAULTS


def test_overrides_replace_the_defaults():
    assert parameters.override_defaults(DEFAULTS, {"depth": 6, "rate": 1}, "x") == DEFAULTS | {"depth": 6, "rate": 1}


@pytest.mark.parametrize(
    "overrides",
    [{"depth": 1.5}, {"depth": "6"}, {"depth": True}, {"rate": "x"}, {"on": 1}, {"name": 3}, {"depth": None}],
)
def test_a_value_of_another_type_is_refused(overrides):
    with pytest.raises(UsageError, match="must be of type"):
        parameters.override_defaults(DEFAULTS, overrides, "x")


def test_an_unknown_name_is_refused_with_the_accepted_ones():
    with pytest.raises(UsageError, match=r"unknown parameter 'dept' of x; accepted: anything, depth, name, on, rate"):
        parameters.override_defaults(DEFAULTS, {"dept": 6}, "x")


@pytest.mark.parametrize("text", ["", "  ", None, "{}"])
def test_an_empty_text_is_an_empty_object(text):
    assert parameters.parse_json_object(text, "params") == {}


@pytest.mark.parametrize("text", ["{depth: 6}", "[1]", "6", '"a"', "{"])
def test_a_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(UsageError, match="params"):
        parameters.parse_json_object(text, "params")
