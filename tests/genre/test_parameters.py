import pytest

from genre import parameters
from genre.errors import UsageError


def example(data, *, depth: int = 5, rate: float = 0.1, name: str = "a", on: bool = True, anything=None):
    return data, depth, rate, name, on, anything


KNOWN = {"depth": 5, "rate": 0.1, "name": "a", "on": True, "anything": None}


def test_defaults_are_the_keyword_only_arguments():
    assert parameters.keyword_defaults(example) == KNOWN


def test_given_values_override_the_defaults():
    assert parameters.override_defaults(KNOWN, {"depth": 6, "rate": 1}, "x") == KNOWN | {"depth": 6, "rate": 1}


@pytest.mark.parametrize(
    "given", [{"depth": 1.5}, {"depth": "6"}, {"depth": True}, {"rate": "x"}, {"on": 1}, {"name": 3}, {"depth": None}]
)
def test_a_value_of_another_type_is_refused(given):
    with pytest.raises(UsageError, match="must be of type"):
        parameters.override_defaults(KNOWN, given, "x")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match=r"unknown parameter 'dept' of x; accepted: anything, depth, name, on, rate"):
        parameters.override_defaults(KNOWN, {"dept": 6}, "x")


@pytest.mark.parametrize("text", ["", "  ", None, "{}"])
def test_nothing_is_an_empty_object(text):
    assert parameters.parse_json_object(text, "params") == {}


@pytest.mark.parametrize("text", ["{depth: 6}", "[1]", "6", '"a"', "{"])
def test_what_is_no_object_is_refused(text):
    with pytest.raises(UsageError, match="params"):
        parameters.parse_json_object(text, "params")
