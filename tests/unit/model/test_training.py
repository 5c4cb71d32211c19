import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from cd4ml.base.errors import Cd4mlError, DataError, ReleaseError
from cd4ml.model.problem import Problem, TrainParams
from cd4ml.model.training import dump_model, load_model, predict_rows, train_model

FEATURES = ("a", "b", "c")


def make_rows():
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "c": rng.choice(["x", "y"], 200)})
    rows.loc[3, "a"] = np.nan
    return rows.assign(binary=rows["b"] > 0, regression=rows["b"] * 2,
                       multiclass=np.where(rows["b"] > 0.5, "high", np.where(rows["b"] > -0.5, "middle", "low")))


def make_problem(task, model, encoder=None):
    def build(params):
        numbers = make_pipeline(SimpleImputer(), StandardScaler())
        columns = [("n", numbers, ["a", "b"]), ("c", encoder or OneHotEncoder(handle_unknown="ignore"), ["c"])]
        return make_pipeline(ColumnTransformer(columns), model)

    return Problem("toy", "", "", task, task, FEATURES, (), dict, dict, dict, build)


@pytest.mark.parametrize("encoder", [OneHotEncoder(handle_unknown="ignore"),
                                     OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)])
@pytest.mark.parametrize(
    ("task", "model"),
    [("binary", HistGradientBoostingClassifier(max_iter=3)), ("multiclass", HistGradientBoostingClassifier(max_iter=3)),
     ("binary", RandomForestClassifier(3)), ("multiclass", LogisticRegression()), ("binary", LogisticRegression()),
     ("regression", HistGradientBoostingRegressor(max_iter=3)), ("regression", RandomForestRegressor(3)),
     ("regression", Ridge())],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_round_trip_gives_the_same_predictions(task, model, encoder):
    rows = make_rows()
    fitted = train_model(make_problem(task, model, encoder), rows, TrainParams())
    asked = rows[["c", "b", "a"]].assign(c="never seen")
    answers = predict_rows(fitted, asked, task)
    pd.testing.assert_frame_equal(answers, predict_rows(load_model(dump_model(fitted)), asked, task))
    assert list(predict_rows(fitted, asked[:0], task)) == list(answers)
    assert len(predict_rows(fitted, asked[:0], task)) == 0
    np.testing.assert_array_equal(answers["prediction"], fitted.predict(asked[list(FEATURES)]))


@pytest.mark.parametrize("encoder", [
    OneHotEncoder(handle_unknown="ignore"),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)])
def test_columns_without_any_value_may_be_of_any_type(encoder):
    rows = make_rows()
    rows.loc[:20, "c"] = None
    problem = make_problem("binary", HistGradientBoostingClassifier(max_iter=3), encoder)
    fitted = train_model(problem, rows, TrainParams())
    empty = {kind: pd.Series([np.nan] * len(rows), dtype=kind) for kind in ("float64", "object", "str")}
    answers = [predict_rows(fitted, rows.assign(c=values), "binary") for values in empty.values()]
    answers += [predict_rows(fitted, rows.assign(c=None), "binary")]
    assert all(one.equals(answers[0]) for one in answers)
    numbers = [predict_rows(fitted, rows.assign(a=empty[kind]), "binary") for kind in ("float64", "object")]
    assert numbers[0].equals(numbers[1])


SCRIPT = """
import sys; sys.path.insert(0, {folder!r})
import hashlib
from sklearn.ensemble import RandomForestClassifier
from test_training import *
model = train_model(make_problem("binary", RandomForestClassifier(3, random_state=0)), make_rows(), TrainParams())
print(hashlib.sha256(dump_model(model)).hexdigest())
"""


def test_two_processes_write_the_same_bytes():
    script = SCRIPT.format(folder=__file__.rpartition("/")[0])
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True) for _ in "ab"]
    assert len({run.stdout for run in runs}) == 1


@pytest.mark.parametrize("data", [b"", b"nothing", b"PK\x03\x04 nothing"])
def test_what_is_no_model_is_refused(data):
    with pytest.raises(ReleaseError, match="not a model file"):
        load_model(data)


def test_a_type_that_is_not_trusted_is_named():
    import skops.io

    data = skops.io.dumps({"call": subprocess.Popen})
    with pytest.raises(ReleaseError, match=r"subprocess\.Popen"):
        load_model(data)


@pytest.mark.parametrize(("task", "change"), [
    ("binary", {"binary": True}), ("binary", {"binary": ["a", "b", "c", "d"] * 50}),
    ("multiclass", {"multiclass": "x"}),
    ("regression", {"regression": np.nan}),
])
def test_a_target_that_cannot_be_learnt(task, change):
    with pytest.raises(DataError, match="target"):
        train_model(make_problem(task, Ridge()), make_rows().assign(**change), TrainParams())


def test_no_rows():
    with pytest.raises(DataError, match="no rows"):
        train_model(make_problem("binary", LogisticRegression()), make_rows()[:0], TrainParams())


def test_a_model_without_probabilities_or_names():
    with pytest.raises(Cd4mlError, match="no probabilities"):
        train_model(make_problem("binary", Ridge()), make_rows(), TrainParams())
    with pytest.raises(Cd4mlError, match="names of its features"):
        predict_rows(Ridge().fit([[1.0], [2.0]], [1, 2]), make_rows(), "regression")
