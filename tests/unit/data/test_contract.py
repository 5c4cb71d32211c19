import pandas as pd
import pandera.pandas as pa
import pytest

from cd4ml.data.contract import ContractError, check_contract, describe_check


def find_violations(df, schema):
    with pytest.raises(ContractError) as caught:
        check_contract(df, schema, "rows")
    return caught.value.violations


def test_every_kind_of_violation_is_listed():
    schema = pa.DataFrameSchema(
        {"a": pa.Column(int, pa.Check.in_range(0, 10)), "b": pa.Column(float), "id": pa.Column(int, unique=True),
         "gone": pa.Column(int)}, strict=True)
    df = pd.DataFrame({"a": [1, 99, -3], "b": [1.0, None, 2.0], "id": [1, 1, 2], "extra": 0})
    found = {violation.column: violation for violation in find_violations(df, schema)}
    assert set(found) == {"a", "b", "id", "gone", "extra"}
    assert (found["a"].count, found["a"].examples) == (2, ("row 1: 99", "row 2: -3"))
    assert found["id"].count == 2
    assert found["b"].check == "must not be missing"


def test_text_of_the_error_has_a_line_for_each_violation():
    schema = pa.DataFrameSchema({"a": pa.Column(int), "b": pa.Column(int)})
    with pytest.raises(ContractError) as caught:
        check_contract(pd.DataFrame({"x": [1]}), schema, "rows")
    assert len(str(caught.value).splitlines()) == 3
    assert [one["column"] for one in caught.value.to_dict()["violations"]] == ["a", "b"]


def test_nothing_is_coerced():
    schema = pa.DataFrameSchema({"a": pa.Column(int, coerce=True)}, coerce=True)
    (violation,) = find_violations(pd.DataFrame({"a": ["6"]}), schema)
    assert violation.check == "must be of type int64, not str"
    assert schema.coerce, "the caller's schema was changed"


def test_environment_cannot_switch_it_off(monkeypatch):
    from pandera.config import CONFIG

    monkeypatch.setattr(CONFIG, "validation_enabled", False)
    find_violations(pd.DataFrame({"a": [-1]}), pa.DataFrameSchema({"a": pa.Column(int, pa.Check.ge(0))}))


def test_no_more_than_three_examples():
    schema = pa.DataFrameSchema({"a": pa.Column(int, pa.Check.ge(0))})
    (violation,) = find_violations(pd.DataFrame({"a": [-1] * 50}), schema)
    assert violation.count == 50
    assert len(violation.examples) == 3


def test_check_that_fails_itself_is_a_violation():
    schema = pa.DataFrameSchema({"a": pa.Column(str)}, checks=pa.Check(lambda df: df["nope"] > 0, error="nope > 0"))
    (violation,) = find_violations(pd.DataFrame({"a": ["x"]}), schema)
    assert violation.check == "nope > 0, which could not be checked"


def test_open_ends_keep_their_exact_spelling():
    assert describe_check(pa.Check.in_range(0, 1, include_max=False)).startswith("in_range(")
    assert describe_check(pa.Check.ge(3)) == "must be at least 3"
