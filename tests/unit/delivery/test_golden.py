"""Golden rows of every type of column: what a column cannot hold is never asked."""

import numpy as np
import pandas as pd
import pytest

from cd4ml.delivery.golden import find_types, find_unseen, frame_rows, make_golden_rows

X = pd.DataFrame({
    "f": [1.5, np.nan, 3.25, -2.0], "f32": np.array([0.1, 0.2, 0.3, 0.4], "float32"), "i": [1, 2, 3, 4],
    "u8": np.array([0, 200, 3, 4], "uint8"), "nullable": pd.array([1, None, 3, 4], "Int64"),
    "b": [True, False, True, True], "text": ["x", None, "y", "never seen"],
    "objects": pd.Series(["x", None, "y", "z"], dtype=object), "kind": pd.Categorical(["p", "q", "p", "q"]),
    "level": pd.Categorical([1, 2, 1, 2]), "day": pd.to_datetime(["2013-01-01", None, "2013-01-03", "2013-01-04"]),
})


@pytest.fixture(scope="module")
def golden():
    return make_golden_rows(X, seed=7)


def test_the_same_rows_and_seed_give_the_same_golden_rows(golden):
    again = make_golden_rows(X, seed=7)
    assert again.cases == golden.cases
    pd.testing.assert_frame_equal(again.rows, golden.rows)
    assert len({str(make_golden_rows(X, seed).rows["i"][:2].tolist()) for seed in range(9)}) > 1


def test_real_rows_come_first_and_no_more_than_there_are(golden):
    assert golden.cases[:5] == ("real",) * 4 + ("f missing",)
    assert sum(case == "real" for case in make_golden_rows(X, 0, n=2).cases) == 2


def test_each_case_changes_its_feature_alone(golden):
    real = golden.rows[:4]
    for number, case in enumerate(golden.cases):
        name = case.split()[0]
        if name not in X or not case.startswith(f"{name} "):
            continue
        row = golden.rows.iloc[number].drop(name)
        assert any(row.equals(real.iloc[i].drop(name)) for i in range(4)), case


def test_missing_values_only_where_the_column_can_hold_one(golden):
    missing = {case.split()[0] for case in golden.cases if case.endswith(" missing")} - {"all"}
    assert missing == set(X) - {"i", "u8", "b"}
    number = golden.cases.index("all missing")
    assert golden.rows.iloc[number][list(missing)].isna().all()


def test_numbers_beyond_the_type_are_not_asked(golden):
    assert not {"u8 far above", "u8 negative", "b zero", "b minimum"} & set(golden.cases)
    assert {"u8 minimum", "u8 maximum", "i far above", "i negative", "f32 far above"} <= set(golden.cases)
    assert golden.rows["f"].iloc[golden.cases.index("f far above")] == 32.5
    assert golden.rows["f"].iloc[golden.cases.index("f negative")] == -32.5


def test_unseen_categories_are_unseen_and_of_the_type_of_the_others(golden):
    for name in ("text", "objects", "kind", "level"):
        value = golden.rows[name].iloc[golden.cases.index(f"{name} unseen")]
        assert value not in set(X[name].dropna())
    assert find_unseen(X["level"]) == 3
    assert find_unseen(X["text"]) == "never seen!"


def test_frames_have_the_types_of_the_columns_and_mistyped_rows_are_apart(golden):
    first, *others = frame_rows(golden.rows, golden.dtypes)
    for name in X:
        expected = "category" if name in ("kind", "level") else str(X[name].dtype)
        assert str(first[name].dtype) == expected
    assert first["kind"].isna().sum() < len(first) / 2, "the unseen category is no missing value"
    assert [case for i, case in enumerate(golden.cases) if i not in set(first.index)] == [
        "numbers as text"] * 2 + ["integers for floats"] * 2 + ["booleans for numbers"] * 2
    assert {number for frame in (first, *others) for number in frame.index} == set(range(len(golden)))
    pd.testing.assert_frame_equal(first[:4].drop(columns=["kind", "level"]).reset_index(drop=True),
                                  X.sample(4, random_state=7).drop(columns=["kind", "level"]).reset_index(drop=True))


def test_wrong_types_are_of_the_numbers_alone(golden):
    types = find_types(golden.rows, golden.dtypes)
    text = dict(zip(golden.dtypes, types[golden.cases.index("numbers as text")], strict=True))
    whole = dict(zip(golden.dtypes, types[golden.cases.index("integers for floats")], strict=True))
    assert {name for name, kind in text.items() if kind == "str"} <= {"f", "f32", "i", "u8", "nullable"}
    assert {name for name, kind in whole.items() if kind} <= {"f", "f32"}
    assert text["i"] == "str"
    assert whole["f32"] == "int"


def test_columns_without_any_value_and_without_numbers():
    empty = make_golden_rows(pd.DataFrame({"x": [np.nan, np.nan]}), 0)
    assert "x maximum" in empty.cases
    words = make_golden_rows(pd.DataFrame({"x": ["a", "b"]}), 0)
    assert words.cases == ("real", "real", "x missing", "x unseen")
    flags = make_golden_rows(pd.DataFrame({"x": [True, False]}), 0)
    assert flags.cases == ("real", "real")
