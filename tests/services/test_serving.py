"""The server as it is: a process of its own, asked over a socket, while releases change under it."""

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from server_process import COMMAND, LISTING, PROBLEM, ROOT, promote, serve, write_release
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from waiting import wait_until

from cd4ml.base.errors import SettingsError
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.model.training import predict_rows
from cd4ml.production.limits import Listening
from cd4ml.production.predictions import read_predictions, summarise_log
from cd4ml.production.serving import serve_problem


@dataclass(frozen=True)
class Server:
    address: str
    process: subprocess.Popen

    def ask(self, path: str, body: object = None, **headers: str) -> tuple[int, dict]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        given = {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"} | given)
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return reply.status, _read(reply.read())
        except urllib.error.HTTPError as error:
            return error.code, _read(error.read())

    def wait_for_release(self, release: int, seconds: float = 40.0) -> float:
        began = time.monotonic()
        wait_until(lambda: self.ask("/health/ready")[1]["release"] == release, f"release {release} serves", seconds)
        return time.monotonic() - began


def _read(data: bytes) -> dict:
    try:
        return json.loads(data)
    except ValueError:
        return {"text": data.decode()}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"hour": rng.integers(5, 23, 400), "temp": rng.normal(60, 10, 400),
                         "is_hub": rng.random(400) < 0.5, "carrier": rng.choice(["AA", "B6", "UA"], 400)})
    return rows.assign(temp=rows["temp"].where(rows["hour"] != 7), carrier=rows["carrier"].where(rows["hour"] != 8))


@pytest.fixture(scope="module")
def models(rows: pd.DataFrame) -> list:
    late = np.random.default_rng(4).random(400) < rows["hour"] / 25
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    columns = make_column_transformer((encode, ["carrier"]), remainder="passthrough")
    return [make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5 * n, random_state=n)).fit(rows, late)
            for n in (1, 4)]


@contextmanager
def start_server(folder: Path, **environ: str) -> Iterator[Server]:
    store = Store(str(folder / "releases"))
    with serve(store, start=(sys.executable, "-c", LISTING), **environ) as (process, address):
        yield Server(address, process)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: list, rows: pd.DataFrame) -> Iterator[tuple[Server, Path]]:
    folder = tmp_path_factory.mktemp("served")
    store = Store(str(folder / "releases"))
    write_release(store, models[0], rows)
    promote(store, 1)
    with start_server(folder) as server:
        server.wait_for_release(1)
        yield server, folder


def to_json(df: pd.DataFrame) -> list[dict]:
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in df.to_dict("records")]


def test_answers_equal_the_notebooks_and_are_logged(
        served: tuple[Server, Path], models: list, rows: pd.DataFrame) -> None:
    server, folder = served
    status, answer = server.ask("/predict", {"rows": to_json(rows)})
    expected = predict_rows(models[0], rows, "binary")
    assert status == 200
    assert answer["release"] == 1
    assert [one["probability"] for one in answer["predictions"]] == expected["probability"].tolist()
    assert [one["prediction"] for one in answer["predictions"]] == expected["prediction"].tolist()
    logged = read_predictions(folder / "predictions", PROBLEM)
    logged = logged[logged["request_id"] == answer["request_id"]]
    assert logged["prediction_id"].tolist() == [one["prediction_id"] for one in answer["predictions"]]
    assert logged["hour"].tolist() == rows["hour"].tolist()
    assert set(logged["release"]) == {1}


def test_a_single_row_may_be_an_object(served: tuple[Server, Path], rows: pd.DataFrame) -> None:
    status, answer = served[0].ask("/predict", to_json(rows.head(1))[0])
    assert status == 200
    assert len(answer["predictions"]) == 1


def test_wrong_requests_are_told_everything_and_not_logged(served: tuple[Server, Path], rows: pd.DataFrame) -> None:
    server, folder = served
    before = summarise_log(folder / "predictions", PROBLEM).count
    good = to_json(rows.head(1))[0]
    status, told = server.ask("/predict", {"rows": [good, {**good, "hour": "17", "tmp": 3}, {"carrier": 5}]})
    assert status == 422
    assert {(one["row"], one["field"]) for one in told["violations"]} == {
        (1, "hour"), (1, "tmp"), (2, "carrier"), (2, "hour"), (2, "temp"), (2, "is_hub")}
    assert next(one for one in told["violations"] if one["field"] == "tmp")["fix"].startswith("Did you mean 'temp'?")
    assert server.ask("/predict", b"{")[0] == 400
    assert server.ask("/predict", {"rows": [good] * 10_001})[0] == 413
    assert server.ask("/predict", b" " * (9 * 2**20))[0] == 413
    assert server.ask("/predict", good, Content_Type="text/plain")[0] == 415
    assert server.ask("/predict")[0] == 405
    assert server.ask("/redoc")[0] == 404
    assert summarise_log(folder / "predictions", PROBLEM).count == before


def test_the_server_describes_itself(served: tuple[Server, Path], rows: pd.DataFrame) -> None:
    server = served[0]
    server.ask("/predict", to_json(rows.head(1))[0])
    model = server.ask("/model")[1]
    assert (model["release"], model["decision"], model["report"]) == (1, "pass", "reports/evaluate.html")
    assert [one["name"] for one in model["features"]] == list(rows)
    assert server.ask("/health/live") == (200, {"status": "live"})
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=20)
    for path in ("/health/live", "/metrics", "/"):  # over the same connection: a body that was sent would be in the way
        connection.request("HEAD", path)
        reply = connection.getresponse()
        assert (reply.status, reply.read()) == (200, b"")
    metrics = server.ask("/metrics")[1]["text"]
    assert 'cd4ml_predictions_total{problem="flights",release="1",role="champion"}' in metrics
    assert "cd4ml_request_seconds_bucket" in metrics
    schema = server.ask("/openapi.json")[1]["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    row = schema["schema"]["oneOf"][1]["properties"]
    assert row["hour"]["type"] == "integer"
    assert row["temp"]["type"] == ["number", "null"]
    models = server.ask("/models")[1]["models"]
    assert [(one["release"], one["decision"], one["serves"]) for one in models] == [(1, "pass", True)]
    assert server.ask("/reports/9")[0] == server.ask("/nothing")[0] == 404
    assert "http" not in server.ask("/docs")[1]["text"].replace("http-equiv", "")


def test_a_promotion_takes_effect_within_a_second_and_no_answer_is_mixed(
        tmp_path: Path, models: list, rows: pd.DataFrame) -> None:
    store = Store(str(tmp_path / "releases"))
    for version, model in enumerate(models, 1):
        write_release(store, model, rows, version)
    write_release(store, models[0], rows, 3)
    store.write(file := f"{PROBLEM}/3/model/model.skops", store.read(file)[:-9])
    asked, expected = to_json(rows.head(20)), {}
    for version, model in enumerate(models, 1):
        expected[version] = predict_rows(model, rows.head(20), "binary")["probability"].tolist()
    answers: list[tuple[int, dict]] = []
    with start_server(tmp_path) as server:
        status, told = server.ask("/predict", {"rows": asked})
        assert status == 503
        assert "cd4ml release flights" in told["fix"]
        assert server.ask("/health/ready")[0] == 503
        promote(store, 1)
        server.wait_for_release(1)
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                answers.append(server.ask("/predict", {"rows": asked}))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for version in (2, 1, 2):
            promote(store, version)
            assert server.wait_for_release(version) < 2.0  # a second, and as much again for a busy machine
        promote(store, 3)
        time.sleep(1.2)
        done.set()
        for thread in threads:
            thread.join()
        status, ready = server.ask("/health/ready")
        assert (status, ready["release"]) == (200, 2)
        assert "is damaged: model/model.skops" in ready["fault"]
        promote(store, 1)
        server.wait_for_release(1)
        assert server.ask("/health/ready")[1]["fault"] is None
    assert {status for status, _ in answers} == {200}
    assert {answer["release"] for _, answer in answers} == {1, 2}
    for _, answer in answers:
        assert [one["probability"] for one in answer["predictions"]] == expected[answer["release"]]


def test_what_cannot_be_logged_is_not_answered(tmp_path: Path, models: list, rows: pd.DataFrame) -> None:
    store = Store(str(tmp_path / "releases"))
    write_release(store, models[0], rows)
    promote(store, 1)
    with start_server(tmp_path) as server:
        server.wait_for_release(1)
        assert server.ask("/predict", {"rows": to_json(rows.head(1))})[0] == 200
        for path in (tmp_path / "predictions").glob("*-*.db"):
            with sqlite3.connect(path) as connection:
                connection.execute("alter table lines rename to gone")
        status, told = server.ask("/predict", {"rows": to_json(rows.head(1))})
        assert status == 503
        assert "prediction log" in told["what"]
        assert "Traceback" not in json.dumps(told)
        assert str(tmp_path) not in json.dumps(told)


def test_a_key_is_asked_for_when_there_is_one(tmp_path: Path, models: list, rows: pd.DataFrame) -> None:
    store = Store(str(tmp_path / "releases"))
    write_release(store, models[0], rows)
    promote(store, 1)
    with start_server(tmp_path, CD4ML_API_KEYS="first, zweiter-schlüssel") as server:
        server.wait_for_release(1)
        good = to_json(rows.head(1))[0]
        for path in ("/predict", "/model", "/metrics"):
            body = good if path == "/predict" else None
            assert server.ask(path, body)[0] == 401
            assert server.ask(path, body, X_API_Key="wrong")[0] == 401
            assert server.ask(path, body, X_API_Key="first")[0] == 200
            key = "zweiter-schlüssel".encode().decode("latin-1")
            assert server.ask(path, body, X_API_Key=key)[0] == 200
        assert server.ask("/health/ready")[0] == 200
        for _ in range(10):  # whoever is refused while still sending reads why, instead of losing the connection
            assert server.ask("/predict", b" " * (40 * 2**20), X_API_Key="wrong")[0] == 401
            assert server.ask("/predict", b" " * (40 * 2**20), X_API_Key="first")[0] == 413


def test_no_server_beyond_this_machine_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CD4ML_API_KEYS", raising=False)
    settings = replace(load_settings(ROOT), release_store=str(tmp_path), prediction_log=str(tmp_path / "log"))
    for host in ("0.0.0.0", "::", "example.org"):
        with pytest.raises(SettingsError, match="API key"):
            serve_problem(settings, PROBLEM, Listening(host, 0))


def test_a_serving_process_stays_light_and_ends_in_order(tmp_path: Path, models: list, rows: pd.DataFrame) -> None:
    store = Store(str(tmp_path / "releases"))
    write_release(store, models[0], rows)
    promote(store, 1)
    with start_server(tmp_path) as server:
        server.wait_for_release(1)
        assert server.ask("/predict", {"rows": to_json(rows.head(3))})[0] == 200
        server.process.send_signal(signal.SIGINT)
        out, err = server.process.communicate(timeout=20)
    assert server.process.returncode == 0
    assert "Traceback" not in err
    heavy = {"mlflow", "jupyter_client", "jupyterlab", "ipykernel", "papermill", "matplotlib", "nbconvert", "nbdev",
             "IPython"}
    assert not heavy & set(out.split())


def test_a_rollback_fails_no_request_and_the_answers_then_name_the_older_release(
        tmp_path: Path, models: list, rows: pd.DataFrame) -> None:
    """By the command, as a person does it in an incident; what MLflow is told comes later."""
    store = Store(str(tmp_path / "releases"))
    for version, model in enumerate(models, 1):
        write_release(store, model, rows, version)
        promote(store, version)
    asked, answers, done = to_json(rows.head(20)), list[tuple[float, int, dict]](), threading.Event()
    environ = os.environ | {"CD4ML_ROOT": str(ROOT), "CD4ML_WHO": "ada"} | {
        f"CD4ML_{name}": str(tmp_path / name) for name in ("RUN_STORE", "DATA_STORE", "SITE", "PREDICTION_LOG")} | {
        "CD4ML_RELEASE_STORE": store.url, "CD4ML_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "CD4ML_REGISTRY_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    with start_server(tmp_path) as server:
        server.wait_for_release(2)

        def ask() -> None:
            while not done.is_set():
                began = time.monotonic()
                answers.append((began, *server.ask("/predict", {"rows": asked})))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        command = [COMMAND, "rollback", PROBLEM, "--why", "late flights are missed"]
        moved = subprocess.run([*command, "--json"], env=environ, cwd=ROOT, capture_output=True, text=True, check=True)
        server.wait_for_release(1)
        served = time.monotonic()
        time.sleep(0.5)
        done.set()
        for thread in threads:
            thread.join()
    told = json.loads(moved.stdout)
    assert (told["champion"], told["moved"], told["event"]["previous"]) == (1, True, 2)
    assert {status for _, status, _ in answers} == {200}
    assert answers[0][2]["release"] == 2
    assert {answer["release"] for began, _, answer in answers if began > served} == {1}
    expected = {version: predict_rows(model, rows.head(20), "binary")["probability"].tolist()
                for version, model in enumerate(models, 1)}
    for _, _, answer in answers:
        assert [one["probability"] for one in answer["predictions"]] == expected[answer["release"]]
