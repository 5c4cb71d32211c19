"""The log under clocks that jump and floods of what nobody knows: nothing acknowledged is lost, the server goes on."""

import datetime as dt
import itertools
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
from cd4ml.production.parts import list_files
from cd4ml.production.predictions import make_id, read_predictions, summarise_log
from cd4ml.production.requests import read_features
from cd4ml.production.service import ServeOptions
from cd4ml.production.serving import make_app

ROOT = Path(__file__).resolve().parents[2]
AT = dt.datetime(2013, 7, 1, 23, 59, 59, 990_000, tzinfo=dt.UTC)
JUMPS = (0, 0.02, -86_400, 3_600, -0.03, 400 * 86_400, -20 * 365 * 86_400, 0.005)  # seconds


class Double:
    def answer_rows(self, rows: list) -> list[dict]:
        return [{"prediction": 2 * row["x"]} for row in rows]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[TestClient, Path]]:
    settings = replace(load_settings(ROOT), release_store=str(tmp_path / "releases"),
                       prediction_log=str(tmp_path / "log"))
    jumps = itertools.cycle(JUMPS)
    app = make_app(settings, "toy", ServeOptions(clock=lambda: AT + dt.timedelta(seconds=next(jumps))))
    release = Release("toy", 1, "", "regression", "y", (("x", "float64"),), (), {"decision": {}}, {}, None, {})
    app.service.watch.champion = Champion(release, Double(), read_features(release))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, tmp_path / "log"


def ask(client: TestClient, *values: float) -> list[str]:
    reply = client.post("/predict", json={"rows": [{"x": value} for value in values]})
    assert reply.status_code == 200
    return [one["prediction_id"] for one in reply.json()["predictions"]]


def test_a_clock_that_jumps_back_and_forth_loses_nothing(served: tuple[TestClient, Path]) -> None:
    client, log = served
    given = [one for turn in range(40) for one in ask(client, *range(1 + turn % 3))]
    logged = read_predictions(log, "toy")
    assert sorted(given) == sorted(logged["prediction_id"])
    assert logged["at"].is_monotonic_increasing
    assert len({part.day for part in list_files(log)}) >= 5
    told = {"outcomes": [{"prediction_id": one, "outcome": 1.5} for one in given]}
    assert client.post("/feedback", json=told).status_code == 200
    assert read_outcomes(log) == dict.fromkeys(given, 1.5)
    assert summarise_log(log, "toy").count == len(given)


def test_a_flood_of_unknown_ids_is_refused_and_the_server_goes_on(served: tuple[TestClient, Path]) -> None:
    client, log = served
    (known,) = ask(client, 1.0)
    for turn in range(5):
        drawn = (make_id(AT + dt.timedelta(days=turn)) for _ in range(5000))
        ids = [*drawn, *(f"{turn}-{i}" for i in range(4999)), known]
        reply = client.post("/feedback", json={"outcomes": [{"prediction_id": one, "outcome": 1} for one in ids]})
        assert reply.status_code == 422
        assert reply.json()["got"] == "9999 violations"
        assert client.get("/health/ready").status_code == 200
        ask(client, 1.0)
    assert not find_outcomes(log).exists()
    assert client.post("/feedback", content=json.dumps({"prediction_id": known, "outcome": 1}),
                       headers={"content-type": "application/json"}).status_code == 200
    assert read_outcomes(log) == {known: 1}
