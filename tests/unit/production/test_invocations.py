"""The same requests to MLflow's own scoring server and to ours: the same answers, and what it refuses we refuse."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.settings import load_settings
from cd4ml.delivery.manifest import Release
from cd4ml.production.champion import Champion
from cd4ml.production.invocations import read_invocation
from cd4ml.production.predictions import summarise_log
from cd4ml.production.requests import RequestError, list_features, read_features
from cd4ml.production.serving import make_app

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(7)
X = pd.DataFrame({"temp": RNG.normal(50, 20, 200), "hour": RNG.integers(0, 24, 200), "is_new": RNG.random(200) > 0.5,
                  "carrier": RNG.choice(["AA", "UA", "B6"], 200)})
X.loc[::7, ["temp", "carrier"]] = None
ROWS = [{name: None if pd.isna(value) else value for name, value in row.items()}
        for row in X.head(8).to_dict("records")]
COLUMNS = {name: [row[name] for row in ROWS] for name in X}
SPLIT = {"columns": [*X], "index": list(range(8)), "data": [[*row.values()] for row in ROWS]}
CSV, WITH_INDEX = X.head(8).to_csv(index=False), X.head(8).to_csv()
GOOD = {
    "split": {"dataframe_split": SPLIT}, "split without index": {"dataframe_split": {**SPLIT, "index": None}},
    "columns in another order": {"dataframe_split": {"columns": SPLIT["columns"][::-1],
                                                     "data": [row[::-1] for row in SPLIT["data"]]}},
    "records": {"dataframe_records": ROWS}, "records with params": {"dataframe_records": ROWS, "params": {"a": 1}},
    "another column": {"dataframe_records": [{**row, "more": 1} for row in ROWS]},
    "another key": {"dataframe_records": ROWS, "more": 1}, "instances": {"instances": ROWS},
    "instances by column": {"instances": COLUMNS}, "inputs": {"inputs": ROWS}, "inputs by column": {"inputs": COLUMNS},
    "inputs with params": {"inputs": COLUMNS, "params": {}}, "inputs with more": {"inputs": ROWS, "more": 1},
    "a row": {"inputs": ROWS[1]},
    "csv": CSV, "csv with index": WITH_INDEX, "csv with CRLF": CSV.replace("\n", "\r\n")}
BAD = {
    "a list": ROWS, "no form": {"rows": ROWS}, "two forms": {"inputs": ROWS, "instances": ROWS}, "no JSON": "{",
    "records as an object": {"dataframe_records": COLUMNS}, "split as a list": {"dataframe_split": ROWS},
    "split with more": {"dataframe_split": {**SPLIT, "more": 1}},
    "split without data": {"dataframe_split": {"columns": []}},
    "nothing": {"dataframe_records": []}, "an empty body": "",
    "without names": {"dataframe_split": {"data": SPLIT["data"]}}, "values only": {"instances": SPLIT["data"]},
    "a column less": {"dataframe_records": [{"temp": 1.0, "carrier": "AA"}]},
    "no number": {"dataframe_records": [{**ROWS[1], "temp": "warm"}]},
    "columns of two lengths": {"inputs": {**COLUMNS, "hour": [1, 2]}}}


def fit(task: str) -> object:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    columns = make_column_transformer((encoder, ["carrier"]), remainder="passthrough")
    y = X["hour"] + X["temp"].fillna(0)
    if task == "regression":
        return make_pipeline(columns, HistGradientBoostingRegressor(max_iter=5)).fit(X, y)
    target = y > 60 if task == "binary" else pd.cut(y, 3, labels=["low", "middle", "high"]).astype(str)
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5)).fit(X, target)


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    import mlflow
    from mlflow.pyfunc.scoring_server import init

    from cd4ml.model.training import TRUSTED_TYPES

    task, folder = request.param, tmp_path_factory.mktemp("invocations")
    model, method = fit(task), "predict" if task == "regression" else "predict_proba"
    signature = mlflow.models.infer_signature(X, getattr(model, method)(X))
    mlflow.sklearn.save_model(model, folder / "model", serialization_format="skops", signature=signature,
                              pyfunc_predict_fn=method, skops_trusted_types=list(TRUSTED_TYPES), pip_requirements=[])
    settings = replace(load_settings(ROOT), release_store=str(folder / "releases"),
                       prediction_log=str(folder / "log"))
    app = make_app(settings, "toy")
    dtypes = tuple((name, str(kind)) for name, kind in X.dtypes.items())
    release = Release("toy", 3, "", task, "y", dtypes, (), {"decision": {}}, {}, None, {})
    app.service.watch.champion = Champion(release, model, read_features(release))
    theirs = TestClient(init(mlflow.pyfunc.load_model(str(folder / "model"))), raise_server_exceptions=False)
    with TestClient(app, raise_server_exceptions=False) as ours:
        yield theirs, ours, folder / "log"


def ask(client: TestClient, body: object) -> tuple[int, dict]:
    is_csv = isinstance(body, str) and "," in body
    data = body if isinstance(body, str) else json.dumps(body)
    kind = "text/csv" if is_csv else "application/json; charset=utf-8"
    reply = client.post("/invocations", content=data.encode(), headers={"content-type": kind})
    return reply.status_code, reply.json()


@pytest.mark.slow
def test_every_form_that_mlflow_takes_gets_the_same_answer(both: tuple[TestClient, TestClient, Path]) -> None:
    theirs, ours, log = both
    for name, body in GOOD.items():
        (expected, told), (got, answer) = ask(theirs, body), ask(ours, body)
        assert (expected, got) == (200, 200), (name, told, answer)
        assert np.allclose(answer["predictions"], told["predictions"], rtol=0, atol=1e-12), name
        assert answer["release"] == 3
        assert len(set(answer["prediction_ids"])) == len(answer["predictions"])
    assert summarise_log(log, "toy").count == sum(1 if name == "a row" else 8 for name in GOOD)


@pytest.mark.slow
def test_what_mlflow_refuses_is_refused_and_not_logged(both: tuple[TestClient, TestClient, Path]) -> None:
    theirs, ours, log = both
    before = summarise_log(log, "toy").count
    for name, body in BAD.items():
        assert ask(theirs, body)[0] >= 400, name
        status, told = ask(ours, body)
        assert status in (400, 422), (name, told)
        assert told["what"]
    assert ours.post("/invocations", content=b"x", headers={"content-type": "text/plain"}).status_code == 415
    assert summarise_log(log, "toy").count == before


@pytest.mark.parametrize(("dtype", "texts", "values"), [
    ("float64", ["1", " -1.5e3", "nan", "", "NULL"], [1, -1500.0, None, None, None]),
    ("int64", ["7", "7.0", "-0"], [7, 7.0, 0]),
    ("boolean", ["true", "False", "TRUE", "NA"], [True, False, True, None]),
    ("str", ["1", "true", "n/a", " a"], ["1", "true", None, " a"]),
    ("datetime64[us]", ["2013-07-01T12:00"], ["2013-07-01T12:00"])])
def test_csv_by_type(dtype: str, texts: list[str], values: list) -> None:
    body = "\n".join(["x,y", *(f'"{text}",0' for text in texts)]).encode()
    rows = read_invocation(body, "text/csv", list_features([("x", dtype)], "toy"), 100)
    assert [row["x"] for row in rows] == values


@pytest.mark.parametrize(("dtype", "text"), [
    ("float64", "1_0"), ("float64", "inf"), ("float64", "1e999"), ("float64", "9" * 500), ("int64", ""),
    ("int64", "3.5"), ("uint8", "256"), ("bool", "1")])
def test_csv_that_a_feature_cannot_be(dtype: str, text: str) -> None:
    with pytest.raises(RequestError) as caught:
        read_invocation(f"x,y\n{text},0\n".encode(), "text/csv", list_features([("x", dtype)], "toy"), 100)
    assert (caught.value.status, caught.value.faults[0].field) == (422, "x")


@pytest.mark.parametrize("body", [b"x\n1,2\n", b"\xff\n1\n", b'x\n"1\n', b"x\n1\n1,2\n"])
def test_what_is_no_csv(body: bytes) -> None:
    features = list_features([("x", "float64")], "toy")
    with pytest.raises(RequestError) as caught:
        read_invocation(body, "text/csv", features, 100)
    assert caught.value.status == 400
