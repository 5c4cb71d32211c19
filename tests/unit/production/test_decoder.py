"""The quick reader never takes what the thorough one refuses, and reads the same where it takes anything."""

import json
import math
import random

import pytest

from cd4ml.production.decoder import make_decoder
from cd4ml.production.requests import RequestError, list_features, read_rows

DTYPES = ("float64", "float32", "int64", "int8", "uint8", "uint64", "Int64", "bool", "boolean", "str", "object",
          "category", "datetime64[us]", "datetime64[us, UTC]")
VALUES = ("null", "true", "0", "-0", "1", "3.0", "3.5", "-1", "127", "128", "255", "256", "1e3", "1e400", "-1E-400",
          "NaN", "Infinity", "1" * 30, "9223372036854775807", "9223372036854775808", "18446744073709551615", '""',
          '"a"', '"\\u0000missing"', '"\\ud800"', '"\\ud83d\\ude00"', '"Zürich"', '"2013-07-01"',
          '"2013-07-01T12:00:00"', '"2013-07-01T12:00:00Z"', "[]", "{}", "[1]", '{"x": 1}', "01", "+1", "1.", "")


def read_both(decoder: object, body: bytes) -> tuple[list | None, list | None]:
    try:
        thorough = read_rows(body, decoder.features, 10)
    except RequestError:
        thorough = None
    for row in thorough or ():  # a whole number is one of the two for a feature that takes fractions
        row |= {one.name: float(row[one.name]) for one in decoder.features if one.kind == "number" and row[one.name]}
    return decoder.read_quickly(body, 10), thorough


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_of_every_type(dtype: str) -> None:
    decoder, taken = make_decoder(list_features([("x", dtype), ("y z", "bool")], "toy")), 0
    for value in VALUES:
        for text in ('{"x": %s, "y z": true}', '{"rows": [{"y z": false, "x": %s}, {"x": %s, "y z": true}]}'):
            quick, thorough = read_both(decoder, text.replace("%s", value).encode())
            assert quick is None or quick == thorough, (value, quick, thorough)
            taken += quick is not None
    assert taken >= 2


@pytest.mark.parametrize("text", [
    "", "{", "null", "[]", '{"rows": []}', '{"rows": {}}', '{"rows": [1]}', '{"rows": [{"x": 1}], "more": 1}',
    '{"X": 1}', '{"x": 1, "y": 2}', '[{"x": 1}]', '{"x": 1} {"x": 1}', '{"x": 1,}', f'{{"rows": {"[" * 5000}}}',
    json.dumps({"rows": [{"x": 1}] * 11})])
def test_wrong_bodies_are_left_to_the_thorough_reader(text: str) -> None:
    decoder = make_decoder(list_features([("x", "float64")], "toy"))
    assert read_both(decoder, text.encode()) == (None, None)


def test_other_spellings_and_encodings_are_read_by_one_of_the_two() -> None:
    decoder = make_decoder(list_features([("x", "float64")], "toy"))
    spaced, twice, spelled = b' {"rows" : [{"x": 1}]}', b'{"x": 2, "x": 1}', b'{"r\\u006fws": [{"x": 1}]}'
    for body in (spaced, '{"x": 1}'.encode("utf-16"), twice, spelled):
        assert decoder.read_rows(body, 10) == [{"x": 1}]


def test_a_feature_called_rows_is_left_to_the_thorough_reader() -> None:
    decoder = make_decoder(list_features([("rows", "float64"), ("x", "float64")], "toy"))
    assert decoder.read_quickly(b'{"rows": 1, "x": 2}', 10) is None
    assert decoder.read_rows(b'{"rows": 1, "x": 2}', 10) == [{"rows": 1, "x": 2}]


def test_numbers_are_read_to_the_last_bit() -> None:
    decoder, dice = make_decoder(list_features([("x", "float64")], "toy")), random.Random(5)
    for _ in range(2000):
        number = math.ldexp(dice.uniform(-1, 1), dice.randint(-1000, 1000))
        quick, thorough = read_both(decoder, json.dumps({"x": number}).encode())
        assert quick == thorough == [{"x": number}]
