"""Without a socket, and yet what the service answers: the same rows are refused, and the same numbers come back."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.errors import ReleaseError
from cd4ml.base.settings import load_settings
from cd4ml.delivery.golden import make_golden_rows
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.parity import compare_implementations
from cd4ml.model.training import predict_rows
from cd4ml.production.champion import Champion
from cd4ml.production.requests import RequestError, read_features
from cd4ml.production.serving import make_app
from cd4ml.production.wire import ask_by_json, write_request

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(5)
X = pd.DataFrame({
    "temp": RNG.normal(50, 20, 300), "hour": RNG.integers(0, 24, 300),
    "seats": pd.array(RNG.integers(2, 400, 300), "Int64"),  # scikit-learn refuses its missing value: nobody answers
    "wind": RNG.normal(size=300).astype("float32"), "is_new": RNG.random(300) > 0.5,
    "carrier": RNG.choice(["AA", "UA", "B6"], 300)})
X.loc[::7, ["temp", "carrier"]] = None


def fit(task: str) -> object:
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    columns = ColumnTransformer([("text", encoder, ["carrier"])], remainder="passthrough")
    y = X["hour"] + X["temp"].fillna(0.0)
    if task == "regression":
        return make_pipeline(columns, HistGradientBoostingRegressor(max_iter=8)).fit(X, y)
    target = y > 60 if task == "binary" else pd.cut(y, 3, labels=["low", "middle", "high"]).astype(str)
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=8)).fit(X, target)


@pytest.fixture(params=["binary", "multiclass", "regression"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, object, TestClient]]:
    task, model = request.param, fit(request.param)
    settings = replace(load_settings(ROOT), release_store=str(tmp_path / "releases"),
                       prediction_log=str(tmp_path / "log"))
    app = make_app(settings, "toy")
    dtypes = tuple((name, str(kind)) for name, kind in X.dtypes.items())
    release = Release("toy", 1, "", task, "y", dtypes, (), {"decision": {}}, {}, None, {})
    app.service.watch.champion = Champion(release, model, read_features(release))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield task, model, client


@pytest.mark.slow
def test_it_answers_and_refuses_as_the_real_service_does(served: tuple[str, object, TestClient]) -> None:
    task, model, client = served

    def ask_server(df: pd.DataFrame) -> pd.DataFrame:
        reply = client.post("/predict", content=write_request(df), headers={"content-type": "application/json"})
        if reply.status_code != 200:
            raise ValueError(reply.text)
        return pd.DataFrame(reply.json()["predictions"], index=df.index).drop(columns="prediction_id")

    golden = make_golden_rows(X, seed=2, n=4)
    wired = ask_by_json(model, X, task)
    report = compare_implementations(ask_server, {"wire": wired}, golden, task, tolerance=0.0)
    assert report.agrees, report
    assert (report.implementations[0].stricter, report.implementations[0].refused) == (0, 0)
    original = compare_implementations(lambda df: predict_rows(model, df, task), {"wire": wired}, golden, task, 0.0)
    assert original.agrees, original
    assert original.implementations[0].difference == 0


@pytest.mark.parametrize("dtype", ["timedelta64[s]", "complex128", "period[D]"])
def test_types_that_a_request_cannot_give_are_told_at_once(dtype: str) -> None:
    frame = pd.DataFrame({"span": pd.Series([], dtype=dtype)})
    with pytest.raises(ReleaseError, match=r"The model has features that cannot be asked for in JSON.*span"):
        ask_by_json(None, frame, "regression")


def test_a_model_that_refuses_and_one_that_gives_no_number() -> None:
    class Model:
        feature_names_in_ = ("temp",)

        def predict(self, rows: pd.DataFrame) -> list[float]:
            if (rows["temp"] > 1).any():
                raise ValueError("too hot")
            return [float("nan")] * len(rows)

    ask = ask_by_json(Model(), X[["temp"]], "regression")
    with pytest.raises(RequestError, match="too hot") as caught:
        ask(pd.DataFrame({"temp": [2.0]}))
    assert caught.value.status == 422
    with pytest.raises(ValueError, match="JSON"):
        ask(pd.DataFrame({"temp": [0.0]}))


def test_every_type_of_column_is_written_as_a_client_would() -> None:
    frame = pd.DataFrame({
        "i8": np.array([1], "int8"), "f32": np.array([0.1], "float32"), "kind": pd.Categorical(["p"]),
        "level": pd.Categorical([2]), "flag": pd.array([None], "boolean"),
        "day": pd.to_datetime(["2013-07-01T12:00"], utc=True), "gap": [None], "inf": [-np.inf]})
    (row,) = json.loads(write_request(frame))["rows"]
    assert row == {"i8": 1, "f32": float(np.float32(0.1)), "kind": "p", "level": 2, "flag": None,
                   "day": "2013-07-01T12:00:00+00:00", "gap": None, "inf": -np.inf}
