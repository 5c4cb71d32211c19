"""Which values a feature takes, and what a frame is made of."""

import json

import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.delivery.manifest import Release
from cd4ml.production.decoder import make_decoder
from cd4ml.production.requests import Feature, RequestError, check_rows, make_frame, read_asked, read_features


def make_features(**dtypes: str) -> tuple[Feature, ...]:
    return read_features(Release("toy", 1, "", "binary", "y", tuple(dtypes.items()), (), {}, {}, None, {}))


@pytest.mark.parametrize(("dtype", "good", "bad"), [
    ("float64", [1, 1.5, -0.0, None, 10**30], [True, "1", float("inf"), 10**400, [], {}]),
    ("int64", [0, -(2**63), 2**63 - 1, 3.0], [None, True, 2**63, 3.5, "3", 1e300]),
    ("uint8", [0, 255], [-1, 256, None]),
    ("Int64", [None, 3], [3.5]),
    ("bool", [True, False], [None, 0, 1, "true"]),
    ("boolean", [True, None], [0]),
    ("str", ["", "Zürich", None], [1, True, ["a"], "\ud800"]),
    ("category", ["a", None], [1]),
    ("datetime64[us]", ["2013-07-01", "2013-07-01T12:00:00", None], ["2013-07-01T12:00:00Z", "July", 5]),
    ("datetime64[us, UTC]", ["2013-07-01T12:00:00Z"], ["2013-07-01T12:00:00"]),
])
def test_values_by_type(dtype: str, good: list, bad: list) -> None:
    features = make_features(x=dtype)
    assert check_rows(features, [{"x": value} for value in good]) == []
    faults = check_rows(features, [{"x": value} for value in bad])
    assert [fault.row for fault in faults] == list(range(len(bad)))
    assert str(make_frame(features, [{"x": value} for value in good])["x"].dtype) == dtype


def test_missing_values_are_missing() -> None:
    features = make_features(a="float64", b="str", c="category", d="object")
    frame = make_frame(features, [{"a": None, "b": None, "c": None, "d": None}])
    assert frame.isna().all(axis=None)


def test_types_that_json_cannot_give_are_refused() -> None:
    with pytest.raises(ReleaseError, match="wait: timedelta64"):
        make_features(a="float64", wait="timedelta64[us]")


def test_all_faults_of_all_rows_are_told_and_the_first_thousand_listed() -> None:
    body = json.dumps({"rows": [{"x": "no", "y": 1}] * 900}).encode()
    with pytest.raises(RequestError) as caught:
        read_asked(body, make_features(x="float64"), 1000)
    assert caught.value.status == 422
    assert "1800 violations in 900 of 900 rows" in caught.value.got
    assert len(caught.value.faults) == 1800
    assert len(caught.value.to_dict()["violations"]) == 1000


@pytest.mark.parametrize("key", ["\x1b[2J", "a\nb", "\x7f", "\x9b", "\u202e", "\ud800", "\u2028", "", "a" * 201,
                                 "a\n", 3, None])
def test_a_key_that_a_terminal_cannot_show_as_it_is_is_refused_like_any_other_violation(key: object) -> None:
    features = make_features(x="float64")
    body = json.dumps({"rows": [{"x": 1.0, "key": "Zürich 1"}, {"x": 1.0, "key": key}]}).encode()
    for read in (make_decoder(features).read_asked, lambda data, most: read_asked(data, features, most)):
        with pytest.raises(RequestError) as caught:
            read(body, 10)
        assert [(one.row, one.field) for one in caught.value.faults] == [(1, "key")]


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400), (b"1" * 5000, 400), (b"null", 422), (b"[]", 422),
    (b'[{"x": 1}]', 422), (b'{"rows": {}}', 422), (b'{"rows": [1, null]}', 422), (b'{"x": NaN}', 422), (b"{}", 422),
    (b'{"rows": [{"x": 1}], "more": 1}', 422),
])
def test_wrong_bodies(body: bytes, status: int) -> None:
    with pytest.raises(RequestError) as caught:
        read_asked(body, make_features(x="float64"), 10)
    assert caught.value.status == status
