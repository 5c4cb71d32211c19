"""The ONNX form of many pipelines gives the original's answers, also to golden rows; what has no such form says why."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier

from cd4ml.base.errors import DataError, ReleaseError
from cd4ml.delivery import export
from cd4ml.delivery.converters import list_trees
from cd4ml.delivery.export import export_model, try_export
from cd4ml.delivery.golden import make_golden_rows
from cd4ml.delivery.parity import compare_implementations
from cd4ml.delivery.portable import load_portable
from cd4ml.model.training import predict_rows

RNG = np.random.default_rng(0)
N = 400
X = pd.DataFrame({
    "city": pd.Series(RNG.choice(list("abcde"), N), dtype="str"), "big": RNG.integers(0, 2**40, N),
    "num": RNG.normal(0, 100, N), "gap": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
    "flag": RNG.random(N) < 0.5, "kind": pd.Series(RNG.choice(["x", "y", None], N), dtype="str"),
    "whole": RNG.integers(0, 9, N)})
PLACES = X["city"].map(dict(zip("abcde", (1, 2, 0, -1, -2), strict=True)))
SCORE = PLACES + X["num"] / 50 + X["flag"] + X["whole"] / 4 + X["gap"].fillna(3) + RNG.normal(size=N)
TARGETS = {"binary": (SCORE.median() < SCORE).to_numpy(), "regression": 1000 * SCORE.to_numpy(),
           "multiclass": np.array(["low", "mid", "top"])[pd.qcut(SCORE, 3, labels=False)]}
TEXTS, NUMBERS = ["city", "kind"], ["big", "num", "gap", "flag", "whole"]


def mix(texts, numbers="passthrough"):
    return ColumnTransformer([("texts", texts, TEXTS), ("numbers", numbers, NUMBERS)])


def number_places():
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)


def spread(**settings):
    return OneHotEncoder(**{"handle_unknown": "ignore", **settings})


def fill(*more):
    return make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), *more)


def list_pipelines():
    median = SimpleImputer(strategy="median")
    often = make_pipeline(SimpleImputer(strategy="most_frequent"), spread())
    constant = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), spread())
    rare = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=85)
    boosting = {"max_iter": 20, "random_state": 0}
    forest = {"n_estimators": 12, "random_state": 0}
    return {
        "hist, ordinal": (mix(number_places()), HistGradientBoostingClassifier(**boosting), "binary"),
        "hist, three classes": (mix(number_places()), HistGradientBoostingClassifier(**boosting), "multiclass"),
        "hist, one-hot": (mix(spread(sparse_output=False)), HistGradientBoostingRegressor(**boosting), "regression"),
        "hist, absolute": (mix(number_places()), HistGradientBoostingRegressor(loss="absolute_error", **boosting),
                           "regression"),
        "hist, shallow": (mix(number_places()), HistGradientBoostingClassifier(
            min_samples_leaf=N, **boosting), "binary"),
        "logistic": (mix(spread(), fill()), LogisticRegression(), "binary"),
        "logistic, three classes": (mix(often, fill()), LogisticRegression(), "multiclass"),
        "logistic, constant": (mix(constant, fill()), LogisticRegression(), "binary"),
        "ridge": (mix(spread(drop="first"), fill()), Ridge(), "regression"),
        "linear, robust": (mix(spread(), make_pipeline(median, RobustScaler())), LinearRegression(), "regression"),
        "linear, range": (mix(spread(), make_pipeline(median, MinMaxScaler(clip=True))), Ridge(), "regression"),
        "forest": (mix(number_places()), RandomForestClassifier(**forest), "binary"),
        "forest, three classes": (mix(spread()), RandomForestClassifier(min_samples_leaf=3, **forest), "multiclass"),
        "forest, regression": (mix(number_places()), RandomForestRegressor(**forest), "regression"),
        "extra trees": (mix(number_places(), median), ExtraTreesClassifier(**forest), "multiclass"),
        "extra trees, regression": (mix(number_places()), ExtraTreesRegressor(**forest), "regression"),
        "one tree": (mix(number_places()), DecisionTreeClassifier(max_depth=4), "multiclass"),
        "boosting": (mix(number_places(), median), GradientBoostingClassifier(**forest), "binary"),
        "boosting, exponential": (mix(number_places(), median), GradientBoostingClassifier(
            loss="exponential", **forest), "binary"),
        "boosting, three classes": (mix(spread(), median), GradientBoostingClassifier(**forest), "multiclass"),
        "boosting, regression": (mix(number_places(), median), GradientBoostingRegressor(**forest), "regression"),
        "target encoder": (mix(TargetEncoder(), fill()), LogisticRegression(), "binary"),
        "target encoder, three classes": (mix(TargetEncoder(), fill()), LogisticRegression(),
                                          "multiclass"),
        "rare categories": (mix(rare, fill()), LogisticRegression(), "binary"),
        "strict one-hot": (mix(OneHotEncoder(), fill()), LogisticRegression(), "binary"),
        "strict ordinal": (mix(OrdinalEncoder()), HistGradientBoostingClassifier(**boosting), "binary"),
        "components": (mix(spread(sparse_output=False), fill(PCA(3))), LogisticRegression(), "multiclass"),
        "network": (mix(spread(), fill()), MLPClassifier((6,), max_iter=400, random_state=0), "multiclass"),
        "calibrated": (mix(spread(), fill()), CalibratedClassifierCV(LogisticRegression()), "binary"),
        "numbers as categories": (ColumnTransformer([("a", spread(), ["city", "flag", "whole"]),
                                                     ("b", OrdinalEncoder(), ["flag"]), ("c", fill(), ["gap"])]),
                                  LogisticRegression(), "binary"),
        "nothing missing, refused": (ColumnTransformer([("a", "passthrough", ["num", "whole"])]),
                                     GradientBoostingClassifier(**forest), "binary"),
        "dropped columns": (ColumnTransformer([("a", fill(), ["gap", "num"])], remainder="drop"), LogisticRegression(),
                            "binary"),
        "remainder": (ColumnTransformer([("a", number_places(), TEXTS)], remainder="passthrough"),
                      HistGradientBoostingClassifier(**boosting), "binary"),
    }


PIPELINES = list_pipelines()


def fit(columns, last, task):
    return make_pipeline(columns, last).fit(X, TARGETS[task])


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_gives_the_answers_of_the_original(name):
    columns, last, task = PIPELINES[name]
    model = fit(columns, last, task)
    data = export_model(model, X, task)
    portable, expected = load_portable(data), predict_rows(model, X, task)
    answers = portable.predict(X)
    pd.testing.assert_frame_equal(answers, expected, rtol=1e-12, atol=1e-13)
    golden = make_golden_rows(X, seed=1)
    report = compare_implementations(partial(predict_rows, model, task=task), {"onnx": portable.predict}, golden, task,
                                     1e-9 * max(1.0, float(np.abs(TARGETS[task]).max()) if task == "regression" else 1))
    assert report.agrees, report.implementations[0]


@pytest.mark.parametrize("name", ["hist, ordinal", "logistic, three classes", "ridge"])
def test_all_ways_to_ask_give_the_same(name):
    columns, last, task = PIPELINES[name]
    portable = load_portable(export_model(fit(columns, last, task), X, task))
    expected = [{str(key): value for key, value in one.items()} for one in portable.predict(X).to_dict("records")]
    rows = X.astype(object).where(X.notna(), None).to_dict("records")
    few = [portable.answer_rows([row])[0] for row in rows[:50]]
    by_column = portable.answer({name: [row[name] for row in rows] for name in X})
    for ways in (few, portable.answer_rows(rows), by_column):
        told = pd.DataFrame(ways)  # the last digit depends on how many are asked at once
        pd.testing.assert_frame_equal(told, pd.DataFrame(expected[: len(ways)]), rtol=1e-13)
    assert {type(value) for one in few for value in one.values()} <= {bool, float, str}
    assert portable.predict(X.iloc[:0]).dtypes.equals(portable.predict(X).dtypes)
    assert portable.predict(X.iloc[:0]).empty


def test_thresholds_are_doubles():
    """Two rows that a float cannot tell apart lie on both sides of a split."""
    near = 2.0**24 + np.arange(40) / 64
    rows = pd.DataFrame({"near": near, "whole": (2**53 - 40) + np.arange(40)})
    for name in rows:
        model = make_pipeline(StandardScaler(with_mean=False, with_std=False), HistGradientBoostingRegressor(
            min_samples_leaf=1, max_iter=5)).fit(rows[[name]], np.arange(40.0))
        found = load_portable(export_model(model, rows, "regression")).predict(rows)
        np.testing.assert_allclose(found["prediction"], model.predict(rows[[name]]), rtol=1e-14)
        assert found["prediction"].nunique() > 15


@pytest.mark.parametrize("kind", [partial(HistGradientBoostingRegressor, max_iter=20, min_samples_leaf=3),
                                  partial(RandomForestRegressor, 20, max_depth=8)])
@pytest.mark.parametrize("lean", [-1.0, 1.0])
def test_trees_answer_alike_at_their_thresholds_and_next_to_them(kind, lean):
    """Whichever way most rows go, and wherever what is missing goes."""
    X = pd.DataFrame({"a": lean * RNG.exponential(size=400), "b": lean * RNG.integers(0, 4, 400).astype(float)})
    X.loc[::7, "a"], X.loc[3::5, "b"], y = np.nan, np.nan, RNG.normal(size=400) + 3 * (X["b"] == lean)
    model = make_pipeline(StandardScaler(with_mean=False, with_std=False), kind()).fit(X, y)
    trees = list_trees(model[-1])[0]
    cuts = np.unique(np.concatenate([one.threshold[(one.feature == 0) & ~one.is_leaf] for one in trees]))
    near = np.concatenate([cuts, np.nextafter(cuts, np.inf), np.nextafter(cuts, -np.inf), [np.nan, 0.0, -0.0, 1e300]])
    rows = pd.DataFrame([(a, b) for a in near[abs(near) != np.inf] for b in (np.nan, 0.0, lean, 2 * lean)],
                        columns=["a", "b"]).clip(upper=1e30)
    found = load_portable(export_model(model, X, "regression")).predict(rows)["prediction"]
    np.testing.assert_allclose(found, model.predict(rows), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [partial(HistGradientBoostingRegressor, max_iter=2, max_leaf_nodes=5),
                                  partial(RandomForestRegressor, 40)])
def test_of_many_columns_those_that_no_tree_asks_are_left_behind(kind):
    """Few of them or nearly all: the answers are the original's."""
    X = pd.DataFrame(RNG.normal(size=(300, 60)), columns=[f"x{i}" for i in range(60)])
    X.loc[::7, "x40"], y = np.nan, RNG.normal(size=300) + 2 * (X["x40"] > 0) - X["x7"]
    model = kind(random_state=0).fit(X, y)
    file = export_model(model, X, "regression")
    inner = [one.feature[~one.is_leaf] for one in list_trees(model)[0]]
    assert (b"Gather" in file) == (len(np.unique(np.concatenate(inner))) <= 30)
    np.testing.assert_allclose(load_portable(file).predict(X)["prediction"], model.predict(X), rtol=0, atol=1e-13)


def test_narrow_columns_are_rounded_as_the_frame_rounds_them():
    rows = pd.DataFrame({"narrow": (RNG.normal(size=200) * 1000).astype("float32")})
    model = make_pipeline(StandardScaler(with_mean=False, with_std=False),
                          HistGradientBoostingRegressor(max_iter=5)).fit(rows, rows["narrow"])
    portable = load_portable(export_model(model, rows, "regression"))
    asked = [{"narrow": 0.1 + i} for i in range(-900, 900)]
    frame = pd.DataFrame({"narrow": pd.Series([row["narrow"] for row in asked], dtype="float32")})
    assert [one["prediction"] for one in portable.answer_rows(asked)] == pytest.approx(model.predict(frame), abs=1e-9)


def test_what_is_missing_in_columns_of_objects_is_told_apart():
    for gap in (None, np.nan):
        rows = pd.DataFrame({"place": pd.Series(["a", "b", gap] * 20, dtype=object)})
        model = make_pipeline(ColumnTransformer([("a", spread(), ["place"])]), LogisticRegression()).fit(
            rows, [False, True, True] * 20)
        portable = load_portable(export_model(model, rows, "binary"))
        for value in ("a", "b", None, np.nan, "c"):
            row = pd.DataFrame({"place": pd.Series([value], dtype=object)})
            expected = predict_rows(model, row, "binary")
            pd.testing.assert_frame_equal(portable.predict(row), expected, rtol=1e-12)


@pytest.mark.parametrize(("change", "said"), [
    ({"when": pd.Timestamp("2013-07-01")}, "when: datetime64"),
    ({"city": pd.Series(pd.Categorical(RNG.integers(0, 3, N)))}, "Categories are no texts"),
])
def test_features_of_other_types_are_named(change, said):
    rows = X.assign(**change)
    model = make_pipeline(spread()).fit(rows)
    with pytest.raises(ReleaseError, match=said):
        export_model(model, rows, "regression")


@pytest.mark.parametrize("value", [["a"], {}, 3, b"a"])
def test_what_is_no_text_is_refused_in_words(value):
    rows = pd.DataFrame({"city": ["a", "b"] * 20})
    model = make_pipeline(OrdinalEncoder(), Ridge()).fit(rows, np.arange(40.0))
    asked = pd.DataFrame({"city": pd.Series(["a", value, None], dtype=object)})
    with pytest.raises(DataError, match="hold what the feature is not"):
        load_portable(export_model(model, rows, "regression")).predict(asked)


def test_what_cannot_be_converted_says_why():
    bent = fit(mix(spread(), make_pipeline(SimpleImputer(), SplineTransformer())), Ridge(), "regression")
    found = try_export(bent, X, "regression")
    assert found.data is None
    assert "SplineTransformer" in found.reason
    assert "the original serves" in found._repr_html_()
    own = HistGradientBoostingClassifier(categorical_features=[0, 1], max_iter=3)
    assert "categories" in try_export(fit(mix(number_places()), own, "binary"), X, "binary").reason
    whole = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    large = pd.DataFrame({"id": 2**53 + np.arange(50)})
    model = make_pipeline(whole, Ridge()).fit(large, np.arange(50.0))
    assert "cannot tell apart" in try_export(model, large, "regression").reason


def test_a_conversion_that_went_wrong_is_not_handed_out(monkeypatch):
    columns, last, task = PIPELINES["ridge"]
    model = fit(columns, last, task)
    other = fit(columns, Ridge(alpha=1000.0), task)
    monkeypatch.setattr(export, "export_model", lambda model, rows, task: export_model(other, rows, task))
    found = try_export(model, X, task)
    assert found.data is None
    assert "more than 1e-06" in found.reason


def test_the_same_model_gives_the_same_bytes():
    columns, last, task = PIPELINES["hist, ordinal"]
    assert export_model(fit(columns, last, task), X, task) == export_model(fit(columns, last, task), X, task)
