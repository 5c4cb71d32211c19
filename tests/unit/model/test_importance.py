import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.errors import DataError, ParameterError
from cd4ml.model.comparison import compare_predictions
from cd4ml.model.evaluation import Interval, Resampling, Scored
from cd4ml.model.importance import (
    HANDS,
    ROWS,
    Importance,
    _measure_losses,
    compare_importance,
    measure_dependence,
    measure_importance,
)
from cd4ml.model.metrics import find_metric
from cd4ml.model.training import predict_rows

FEW = Resampling(resamples=100)


def make_case(n=600, coefficients=(4.0, 2.0, 1.0, 0.0), seed=0, unit=None):
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({f"x{i}": rng.normal(size=n) for i in range(len(coefficients))})

    def predict(df):
        return pd.DataFrame({"prediction": df.to_numpy() @ np.array(coefficients)}, index=df.index)

    y = predict(X)["prediction"] + rng.normal(size=n)
    return Scored(y, predict(X), "regression", unit), predict, X


@pytest.fixture(scope="module")
def mixed():
    """A classifier on columns of every kind, with missing values."""
    rng, n = np.random.default_rng(0), 400
    x = rng.normal(size=n)
    X = pd.DataFrame({
        "float": np.where(rng.random(n) < 0.1, np.nan, x), "int": rng.integers(0, 40, n), "bool": rng.random(n) < 0.5,
        "category": pd.Categorical(rng.choice(list("abc"), n)), "object": rng.choice(["u", "v", None], n),
        "nullable": pd.array(np.where(rng.random(n) < 0.2, None, rng.integers(0, 9, n)), dtype="Int64"),
        "constant": 1.0, "empty": np.nan,
    }, index=rng.permutation(n))
    y = pd.Series(x + rng.normal(size=n) > 0, index=X.index)
    words = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    columns = ColumnTransformer([("words", words, ["category", "object"]), ("empty", "drop", ["empty"])],
                                remainder="passthrough")
    plain = {"nullable": float}  # scikit-learn takes no pd.NA
    model = Pipeline([("columns", columns), ("model", HistGradientBoostingClassifier(max_iter=20))])
    model.fit(X.astype(plain), y)
    seen = []

    def predict(df):
        seen.append(df.dtypes)
        return predict_rows(model, df.astype(plain), "binary")

    return Scored(y, predict(X), "binary"), predict, X, seen


def test_importance_grows_with_the_coefficient_and_is_none_where_there_is_none():
    importance = measure_importance(*make_case(), "rmse", FEW)
    assert list(importance.intervals) == ["x0", "x1", "x2", "x3"]
    unused = importance.intervals["x3"]
    assert (unused.low, unused.value, unused.high, unused.lower, unused.upper) == (0, 0, 0, 0, 0)
    assert str(unused) == "0 ± 0"


def test_a_fitted_model_that_ignores_a_feature_has_none():
    scored, _, X = make_case()
    model = LinearRegression().fit(X[["x0", "x1"]], scored.y)

    def predict(df):
        return predict_rows(model, df, "regression")

    importance = measure_importance(Scored(scored.y, predict(X), "regression"), predict, X, "mae", FEW)
    assert importance.intervals["x2"].value == importance.intervals["x3"].high == 0


@pytest.mark.parametrize(("n", "days"), [(200, 0), (900, 0), (900, 60)])
def test_intervals_hold_the_truth_as_often_as_they_say(n, days):
    """Donors are part of the chance: were they not drawn with their rows, 75 to 88 of 100 would hold it."""
    truth, held = (1 + 2 * 2**2) ** 0.5 - 1, 0
    for seed in range(100):
        unit = pd.Series(np.random.default_rng(seed).integers(0, days, n)) if days else None
        case = make_case(n, (2.0, 0.0), seed, unit)
        interval = measure_importance(*case, "rmse", Resampling(resamples=200, seed=seed)).intervals["x0"]
        held += interval.low <= truth <= interval.high
    assert 88 <= held <= 100


def test_a_seed_gives_the_same_again_and_another_seed_another():
    case = make_case()
    first, again, other = (measure_importance(*case, "rmse", Resampling(resamples=50, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.intervals["x0"] != other.intervals["x0"]


def test_importance_does_not_depend_on_the_other_columns():
    scored, predict, X = make_case()

    def predict_more(df):
        return predict(df[list(X.columns)])

    wide = pd.concat([pd.DataFrame({f"z{i}": 0.0 for i in range(40)}, index=X.index), X], axis=1)
    narrow = measure_importance(scored, predict, X, "rmse", FEW).intervals
    assert measure_importance(scored, predict_more, wide, "rmse", FEW).intervals["x1"] == narrow["x1"]


def test_many_rows_are_asked_once_and_few_several_times():
    many = measure_importance(*make_case(ROWS + 500), "rmse", FEW)
    assert (many.rows, many.repeats, many.intervals["x0"].n, many.intervals["x0"].units) == (ROWS, 1, ROWS, HANDS)
    few = measure_importance(*make_case(90), "rmse", FEW)
    assert (few.rows, few.repeats, few.intervals["x0"].n, few.intervals["x0"].units) == (90, 3, 90, 30)


def test_a_feature_of_the_day_counts_though_it_is_the_same_all_day():
    rng = np.random.default_rng(0)
    day = pd.Series(np.repeat(np.arange(30), 20))
    X = pd.DataFrame({"weather": rng.normal(size=30)[day]})

    def predict(df):
        return pd.DataFrame({"prediction": df["weather"]}, index=df.index)

    y = X["weather"] + rng.normal(size=600)
    scored = Scored(y, predict(X), "regression", day)
    interval = measure_importance(scored, predict, X, "rmse", FEW).intervals["weather"]
    assert interval.low > 0
    assert interval.units == 10


@pytest.mark.parametrize("unit", [None, "one", "two", "missing"])
@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.filterwarnings("error")
def test_what_so_few_rows_cannot_say_is_undefined(rows, unit):
    scored, predict, X = make_case(rows)
    days = {"one": ["a"] * 5, "two": list("aabbb"), "missing": ["a", None, "a", None, "b"]}.get(unit)
    labels = None if days is None else pd.Series(days[:rows], dtype=object)
    importance = measure_importance(Scored(scored.y, predict(X), "regression", labels), predict, X, "rmse", FEW)
    assert not importance.intervals["x0"].is_defined
    assert set(importance.intervals) == set(X.columns)
    assert importance._repr_html_()


def test_undefined_importance_comes_last():
    scored = Scored(pd.Series([True] * 40), pd.DataFrame({"prediction": True, "probability": 0.5}, index=range(40)),
                    "binary")
    X = pd.DataFrame({"a": range(40)})

    def predict(df):
        return scored.predictions.iloc[np.zeros(len(df), int)]

    importance = measure_importance(scored, predict, X, "roc_auc", FEW)
    assert str(importance.intervals["a"]) == "undefined"
    json.dumps(importance.to_dict(), allow_nan=False)


def test_columns_keep_their_kind(mixed):
    scored, predict, X, seen = mixed
    importance = measure_importance(scored, predict, X, "roc_auc", FEW)
    for name in X.columns:
        measure_dependence(scored, predict, X, name)
    assert all(dtypes.equals(X.dtypes) for dtypes in seen)
    assert next(iter(importance.intervals)) == "float"
    for name in ("constant", "empty"):
        assert (importance.intervals[name].low, importance.intervals[name].high) == (0, 0)


def test_it_is_the_paired_difference_of_two_models():
    scored, predict, X = make_case()
    other = predict(X[::-1].reset_index(drop=True))
    for name in ("rmse", "r2"):
        ours = _measure_losses(scored, {"x": other}, find_metric(name, "regression"), FEW)["x"]
        assert ours == compare_predictions(scored, other, [name], FEW)[name]


def test_wrong_input_is_an_error():
    scored, predict, X = make_case()
    with pytest.raises(DataError, match="not of the rows"):
        measure_importance(scored, predict, X[:10], "rmse")
    with pytest.raises(ParameterError, match="roc_auc"):
        measure_importance(scored, predict, X, "roc_auc")


def test_models_are_apart_where_their_intervals_do_not_meet():
    def make(**values):
        return Importance("rmse", {k: Interval(v, v - 1, v + 1, 0.95, 9) for k, v in values.items()}, 9, 1)

    shift = compare_importance(make(a=9, b=5, c=1), make(b=8, a=9, d=4))
    assert list(shift.pairs) == ["a", "b", "c", "d"]
    assert shift.apart == ["b"]
    assert shift.pairs["c"][1] is None
    assert shift.pairs["d"][0] is None
    assert "no feature" in shift._repr_html_()


def test_dependence_of_a_line_is_the_line():
    scored, predict, X = make_case(2000)
    line = measure_dependence(scored, predict, X, "x1", seed=1)
    assert len(line.values) == 15
    assert line.rows == 500
    assert line.values == tuple(sorted(line.values))
    assert set(line.values) <= set(X["x1"])
    np.testing.assert_allclose(np.diff(line.mean), 2 * np.diff(line.values))
    assert line == measure_dependence(scored, predict, X, "x1", seed=1)
    assert all(low < mean < high for low, mean, high in zip(line.low, line.mean, line.high, strict=True))


def test_dependence_on_each_kind_of_column(mixed):
    scored, predict, X, _ = mixed
    found = {name: measure_dependence(scored, predict, X, name) for name in X.columns}
    assert found["float"].is_numeric
    assert found["nullable"].values == tuple(float(x) for x in range(9))
    assert sorted(found["bool"].values) == ["False", "True"]
    assert sorted(found["category"].values) == ["a", "b", "c"]
    assert sorted(found["object"].values) == ["u", "v"]
    assert found["constant"].values == (1.0,)
    assert found["empty"].values == ("(missing)",)
    assert {one.answer for one in found.values()} == {"probability"}
    assert all(0 <= x <= 1 for one in found.values() for x in one.low + one.high)


def test_categories_are_the_most_frequent_ones():
    letters = pd.DataFrame({"x": list("aabbbcddddd" + "efghijklmnopq")})

    def predict(df):
        return pd.DataFrame({"prediction": df["x"].map(ord).astype(float)}, index=df.index)

    scored = Scored(predict(letters)["prediction"], predict(letters), "regression")
    found = measure_dependence(scored, predict, letters, "x")
    assert len(found.values) == 12
    assert found.values[:4] == ("d", "b", "a", "c")
    assert found.mean == found.low == found.high == tuple(float(ord(value)) for value in found.values)


def test_of_several_classes_the_one_predicted_most_is_shown():
    X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0]})

    def predict(df):
        share = df["x"].to_numpy() / 4
        return pd.DataFrame({"prediction": np.where(share > 0.1, "b", "a"), "probability_a": 1 - share,
                             "probability_b": share}, index=df.index)

    found = measure_dependence(Scored(pd.Series(list("abab")), predict(X), "multiclass"), predict, X, "x")
    assert found.answer == "probability of b"
    assert found.mean == (0, 0.25, 0.5, 0.75)
