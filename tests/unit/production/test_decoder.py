"""The quick reader never takes what the thorough one refuses, and reads the same where it takes anything."""

import json
import math
import random
from collections.abc import Mapping

import pytest

from cd4ml.production.decoder import Decoder, make_decoder
from cd4ml.production.requests import Asked, RequestError, list_features, read_asked

DTYPES = ("float64", "float32", "int64", "int8", "uint8", "uint64", "Int64", "bool", "boolean", "str", "object",
          "category", "datetime64[us]", "datetime64[us, UTC]")
VALUES = ("null", "true", "0", "-0", "1", "3.0", "3.5", "-1", "127", "128", "255", "256", "1e3", "1e400", "-1E-400",
          "NaN", "Infinity", "1" * 30, "9223372036854775807", "9223372036854775808", "18446744073709551615", '""',
          '"a"', '"\\u0000missing"', '"\\ud800"', '"\\ud83d\\ude00"', '"Zürich"', '"2013-07-01"',
          '"2013-07-01T12:00:00"', '"2013-07-01T12:00:00Z"', "[]", "{}", "[1]", '{"x": 1}', "01", "+1", "1.", "")


def read_both(decoder: Decoder, body: bytes) -> tuple[Asked | None, Asked | None]:
    try:
        thorough = read_asked(body, decoder.features, 10)
    except RequestError:
        thorough = None
    for row in thorough.rows if thorough else ():  # a whole number is one of the two for a feature that takes fractions
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
        assert decoder.read_asked(body, 10).rows == [{"x": 1}]


def test_a_feature_called_rows_is_left_to_the_thorough_reader() -> None:
    decoder = make_decoder(list_features([("rows", "float64"), ("x", "float64")], "toy"))
    assert decoder.read_quickly(b'{"rows": 1, "x": 2}', 10) is None
    assert decoder.read_asked(b'{"rows": 1, "x": 2}', 10).rows == [{"rows": 1, "x": 2}]


def test_numbers_are_read_to_the_last_bit() -> None:
    decoder, dice = make_decoder(list_features([("x", "float64")], "toy")), random.Random(5)
    for _ in range(2000):
        number = math.ldexp(dice.uniform(-1, 1), dice.randint(-1000, 1000))
        quick, thorough = read_both(decoder, json.dumps({"x": number}).encode())
        assert quick == thorough == Asked([{"x": number}])


@pytest.mark.parametrize(("key", "is_right"), [
    ('"a"', True), ('"Zürich"', True), (f'"{"k" * 200}"', True), (f'"{"k" * 201}"', False), ('""', False), ("1", False),
    ("null", False), ('["a"]', False), ('"\\ud800"', False)])
def test_both_readers_take_the_same_keys(key: str, is_right: bool) -> None:
    decoder = make_decoder(list_features([("x", "float64")], "toy"))
    quick, thorough = read_both(decoder, f'{{"rows": [{{"x": 1}}, {{"x": 2, "key": {key}}}]}}'.encode())
    assert quick == thorough == (Asked([{"x": 1.0}, {"x": 2.0}], ["", json.loads(key)]) if is_right else None)
    quick, thorough = read_both(decoder, f'{{"key": {key}, "x": 2}}'.encode())
    assert quick == thorough == (Asked([{"x": 2.0}], [json.loads(key)]) if is_right else None)


def test_every_wrong_key_is_told_with_its_row() -> None:
    decoder = make_decoder(list_features([("x", "float64")], "toy"))
    with pytest.raises(RequestError) as caught:
        decoder.read_asked(b'{"rows": [{"x": 1, "key": "a"}, {"x": "a", "key": ""}, {"x": 2, "key": 3}]}', 10)
    assert [(fault.row, fault.field) for fault in caught.value.faults] == [(1, "x"), (1, "key"), (2, "key")]


def test_a_feature_called_key_is_left_to_the_thorough_reader() -> None:
    assert make_decoder(list_features([("key", "float64")], "toy")).read_quickly(b'{"key": 1}', 10) is None


def test_a_row_is_a_mapping_that_knows_its_values_in_order() -> None:
    decoder = make_decoder(list_features([("y z", "float64"), ("x", "str")], "toy"))
    (row,), _ = decoder.read_quickly(b'{"x": "a", "y z": 1, "key": "k"}', 10)
    assert (row["x"], row["y z"], row.names, row.values()) == ("a", 1.0, ("y z", "x"), (1.0, "a"))
    assert isinstance(row, Mapping)
    assert dict(row) == row == {"x": "a", "y z": 1.0}
    assert row != {"x": "a"}
    with pytest.raises(KeyError, match="f0"):
        row["f0"]
