import datetime as dt
import math

import numpy as np
import pandas as pd
import pandera.pandas as pa_
import pyarrow as pa
import pytest

from cd4ml.base.errors import DataError
from cd4ml.production.columns import check_columns, check_types
from cd4ml.production.requests import check_rows, list_features, make_frame

DTYPES = [("i", "int64"), ("u", "uint8"), ("f", "float64"), ("f32", "float32"), ("b", "bool"), ("s", "str"),
          ("o", "object"), ("c", "category"), ("t", "datetime64[us]"), ("z", "datetime64[ns, UTC]"), ("I", "Int64")]
FEATURES = list_features(DTYPES, "The model")
GOOD = {"i": 7, "u": 255, "f": 0.1 + 0.2, "f32": 1.5, "b": True, "s": "é", "o": "x", "c": "k",
        "t": "2013-07-01T12:00:00", "z": "2013-07-01T12:00:00+00:00", "I": 2**62 + 1}
NULLS = dict.fromkeys(("f", "f32", "s", "o", "c", "t", "z", "I"))


def write_table(rows: list[dict]) -> pa.Table:
    """Return rows as an own program might write them: plain Arrow types."""
    told = [row | {name: dt.datetime.fromisoformat(row[name]) if row[name] else None for name in ("t", "z")}
            for row in rows]
    kinds = {"u": pa.uint8(), "t": pa.timestamp("us"), "z": pa.timestamp("us", "UTC"), "I": pa.int64()}
    return pa.table({name: pa.array([row[name] for row in told], kinds.get(name)) for name, _ in DTYPES})


def test_a_table_gives_the_frame_that_a_request_gives() -> None:
    rows = [GOOD, GOOD | NULLS, GOOD]
    assert not check_rows(FEATURES, rows)
    expected = make_frame(FEATURES, rows)
    found = check_columns(write_table(rows), FEATURES)
    assert not found.reasons
    pd.testing.assert_frame_equal(found.frame, expected)
    texts = pa.table({name: pa.array([None if row[name] is None else str(row[name]) for row in rows])
                      for name, _ in DTYPES})
    pd.testing.assert_frame_equal(check_columns(texts, FEATURES).frame, expected)


@pytest.mark.parametrize(("name", "value"), [
    ("i", 1.5), ("i", math.nan), ("i", 2.0**63), ("i", None), ("u", 256), ("u", -1), ("f", math.inf), ("f", -math.inf),
    ("b", None)])
def test_a_value_that_a_request_may_not_have_sets_its_row_aside(name: str, value: object) -> None:
    feature = [one for one in FEATURES if one.name == name]
    good = {"i": 1, "u": 1, "f": 1.0, "b": True}[name]
    found = check_columns(pa.table({name: pa.array([good, value, good])}), feature)
    assert found.places.tolist() == [0, 2]
    assert list(found.reasons) == [1]
    assert found.reasons[1][0].startswith(f"{name} must ")
    assert len(found.frame) == 2
    assert str(found.frame[name].dtype) == feature[0].dtype


def test_everything_wrong_with_a_row_is_told() -> None:
    table = pa.table({"i": ["x", "1"], "f": ["inf", "2"], "b": ["maybe", "false"]})
    found = check_columns(table, [one for one in FEATURES if one.name in ("i", "f", "b")])
    assert [reason.partition(' ')[0] for reason in found.reasons[0]] == ["i", "f", "b"]
    assert found.frame.to_dict("records") == [{"i": 1, "f": 2.0, "b": False}]


def test_types_that_cannot_fit_are_all_told_before_a_row_is_read() -> None:
    schema = pa.schema([("i", pa.string()), ("f", pa.bool_()), ("s", pa.int64()), ("t", pa.timestamp("us", "UTC"))])
    features = [one for one in FEATURES if one.name in ("i", "f", "s", "t", "z")]
    with pytest.raises(DataError) as caught:
        check_types(features, schema, False, "in.parquet")
    for name in ("'i' is string", "'f' is bool", "'s' is int64", "'t' is timestamp", "'z' is missing"):
        assert name in str(caught.value)
    check_types([one for one in features if one.name != "z"], schema, True, "in.csv")


def test_wide_and_narrow_types_fit() -> None:
    schema = pa.schema([("i", pa.int8()), ("u", pa.float64()), ("f", pa.int32()), ("f32", pa.float16()),
                        ("b", pa.bool_()), ("s", pa.large_string()), ("o", pa.dictionary(pa.int8(), pa.string())),
                        ("c", pa.null()), ("t", pa.timestamp("s")), ("z", pa.timestamp("ms", "Europe/Rome")),
                        ("I", pa.null())])
    check_types(FEATURES, schema, False, "in.parquet")


def test_the_contract_sets_aside_what_breaks_it_and_nothing_else() -> None:
    contract = pa_.DataFrameSchema({
        "f": pa_.Column(float, pa_.Check.in_range(0, 1), nullable=True),
        "s": pa_.Column(str, [pa_.Check.isin(["a", "b"]), pa_.Check.str_length(1, 1)]),
        "other": pa_.Column(int)}, unique=["f"], strict=True)
    table = pa.table({"f": [0.5, 0.5, np.nan, 2.0, 1.0], "s": ["a", "bb", None, "c", "b"]})
    found = check_columns(table, [one for one in FEATURES if one.name in ("f", "s")], contract)
    assert found.places.tolist() == [0, 4]
    assert found.reasons[2] == ["s must not be missing: none"]
    assert found.reasons[3] == ["f must lie between 0 and 1: 2.0", 's must be one of a, b: "c"']
    assert len(found.reasons[1]) == 2
    assert found.frame.index.tolist() == [0, 1]


def test_places_count_from_the_chunk_when_both_checks_find_something() -> None:
    contract = pa_.DataFrameSchema({"i": pa_.Column(int, pa_.Check.ge(0))})
    table = pa.table({"i": [None, 1, -1, 2]})
    found = check_columns(table, [FEATURES[0]], contract)
    assert found.places.tolist() == [1, 3]
    assert list(found.reasons) == [0, 2]
