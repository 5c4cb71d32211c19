"""What the app says when the model itself goes wrong."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cd4ml.base.settings import load_settings
from cd4ml.delivery.manifest import Release
from cd4ml.production.champion import Champion
from cd4ml.production.predictions import summarise_log
from cd4ml.production.requests import read_features
from cd4ml.production.service import ServeOptions
from cd4ml.production.serving import make_app

ROOT = Path(__file__).parents[3]


class BrokenModel:
    feature_names_in_ = ("x",)
    failure: Exception | None = None

    def predict(self, X: object) -> list[float]:
        if self.failure:
            raise self.failure
        return [float("nan")]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = replace(load_settings(ROOT), release_store=str(tmp_path / "releases"),
                       prediction_log=str(tmp_path / "log"))
    app = make_app(settings, "toy")
    release = Release("toy", 1, "", "regression", "y", (("x", "float64"),), (), {"decision": {}}, {}, None, {})
    app.service.watch.champion = Champion(release, BrokenModel(), read_features(release))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize(("failure", "status"), [(ValueError("x is too large"), 422), (TypeError("secret detail"), 500),
                                                 (None, 500)])
def test_a_failing_model_is_told_without_its_trace(client: TestClient, tmp_path: Path, failure: Exception | None,
                                                   status: int) -> None:
    client.app.service.watch.champion.model.failure = failure
    reply = client.post("/predict", json={"x": 1.0})
    assert reply.status_code == status
    assert "Traceback" not in reply.text
    assert "secret" not in reply.text
    assert summarise_log(tmp_path / "log", "toy").count == 0
    assert f'status="{status}"' in client.get("/metrics").text


def test_who_watches_is_answered_while_the_server_is_full_and_its_key_used_up(tmp_path: Path) -> None:
    settings = replace(load_settings(ROOT), release_store=str(tmp_path / "releases"),
                       prediction_log=str(tmp_path / "log"))
    app = make_app(settings, "toy", ServeOptions(keys=("k",), max_requests=1, max_rate=0.001))
    key = {"X-API-Key": "k"}
    with TestClient(app) as client, app.service.admission.admit():
        assert client.post("/predict", headers=key).status_code == 503
        for _ in range(3):
            assert client.get("/metrics", headers=key).status_code == 200
            assert client.get("/health/live").status_code == 200
            assert "it has as many requests as it takes" in client.get("/health/ready").json()["reasons"]
        assert [client.get("/models", headers=key).status_code for _ in range(2)] == [200, 429]
        assert client.get("/metrics", headers=key).status_code == 200
        assert client.get("/metrics").status_code == 401


@pytest.mark.parametrize("path", ["/nothing", "/reports/x", "/reports/0", "/reports/07", "/reports/-1", "/reports/٣",
                                  "/reports/" + "9" * 300])
def test_what_is_not_there_is_told_like_any_other_refusal(client: TestClient, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 404
    assert reply.headers["content-type"] == "application/json"
    assert {"error", "what", "fix"} <= reply.json().keys()


@pytest.mark.parametrize("path", ["/predict/", "/models/", "/health/live/", "/docs/"])
def test_a_slash_too_many_is_told_and_sent_nowhere(client: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        reply = client.request(method, path, headers={"Host": "elsewhere.example"}, follow_redirects=False)
        assert (reply.status_code, reply.json()["what"]) == (404, "Nothing is here")
        assert "location" not in reply.headers


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/ping", "/metrics", "/", "/docs", "/models"])
def test_head_is_answered_as_get_is_without_a_body(client: TestClient, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.headers["content-type"]) == (whole.status_code, whole.headers["content-type"])
    assert head.content == b""
    assert client.head("/predict").status_code == 405


def test_another_method_is_told_which_one_it_is(client: TestClient) -> None:
    for path, method in (("/predict", "POST"), ("/health/ready", "GET"), ("/models", "GET")):
        reply = client.put(path)
        assert (reply.status_code, reply.headers["allow"], reply.json()["expected"]) == (405, method, method)
