"""What came of predictions: told once, twice and corrected; mistakes are told whole, and then nothing is kept."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cd4ml.base.settings import load_settings
from cd4ml.delivery.manifest import Release
from cd4ml.production.champion import Champion
from cd4ml.production.outcomes import find_outcomes, read_outcomes
from cd4ml.production.requests import read_features
from cd4ml.production.serving import make_app

ROOT = Path(__file__).parents[3]


class Constant:
    def answer_rows(self, rows: list) -> list[dict]:
        return [{"prediction": True, "probability": 0.75} for _ in rows]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[TestClient, Path]]:
    settings = replace(load_settings(ROOT), release_store=str(tmp_path / "releases"),
                       prediction_log=str(tmp_path / "log"))
    app = make_app(settings, "toy")
    release = Release("toy", 1, "", "binary", "y", (("x", "float64"),), (False, True), {"decision": {}}, {}, None, {})
    app.service.watch.champion = Champion(release, Constant(), read_features(release))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, find_outcomes(tmp_path / "log")


def predict(client: TestClient, rows: int) -> list[str]:
    answer = client.post("/predict", json={"rows": [{"x": 1.0}] * rows}).json()
    return [one["prediction_id"] for one in answer["predictions"]]


def test_the_last_word_counts(served: tuple[TestClient, Path]) -> None:
    client, path = served
    first, second, third = predict(client, 3)
    told = {"outcomes": [{"prediction_id": first, "outcome": True}, {"prediction_id": second, "outcome": False}]}
    for _ in range(2):
        reply = client.post("/feedback", json=told)
        assert (reply.status_code, reply.json()) == (200, {"problem": "toy", "kept": 2})
    assert client.post("/feedback", json={"prediction_id": first, "outcome": False}).status_code == 200
    assert read_outcomes(path) == {first: False, second: False}
    assert read_outcomes(path, [third]) == {}


def test_all_mistakes_are_told_and_nothing_is_kept(served: tuple[TestClient, Path]) -> None:
    client, path = served
    (known,) = predict(client, 1)
    good = {"prediction_id": known, "outcome": True}
    wrong = [good, {"prediction_id": known}, 5, {"prediction_id": 5, "outcome": True},
             {"prediction_id": known, "outcome": 1}, {"prediction_id": known, "outcome": "late"}]
    reply = client.post("/feedback", json={"outcomes": wrong})
    assert reply.status_code == 422
    assert [(one["row"], one["field"]) for one in reply.json()["violations"]] == [
        (1, ""), (2, ""), (3, ""), (4, "outcome"), (5, "outcome")]
    reply = client.post("/feedback", json={"outcomes": [good, {"prediction_id": "unknown", "outcome": True}]})
    assert [(one["row"], one["got"]) for one in reply.json()["violations"]] == [(1, "an unknown one")]
    assert not path.exists()


@pytest.mark.parametrize(("body", "status"), [
    (b"{", 400), (b"[]", 422), (b'{"outcomes": []}', 422), (b'{"outcomes": {}}', 422), (b"null", 422),
    (json.dumps({"outcomes": [{}] * 10_001}).encode(), 413), (b"[" * 100_000, 400)])
def test_wrong_bodies(served: tuple[TestClient, Path], body: bytes, status: int) -> None:
    reply = served[0].post("/feedback", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status
    assert served[0].post("/feedback", content=body).status_code == 415
    assert served[0].get("/feedback").status_code == 405


def test_outcomes_that_cannot_be_kept_are_told_with_a_503(served: tuple[TestClient, Path]) -> None:
    client, path = served
    (known,) = predict(client, 1)
    path.mkdir()
    reply = client.post("/feedback", json={"prediction_id": known, "outcome": True})
    assert reply.status_code == 503
    assert str(path) not in reply.text
    path.rmdir()
    assert client.post("/feedback", json={"prediction_id": known, "outcome": True}).status_code == 200
