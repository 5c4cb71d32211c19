"""What came of predictions: told once, twice and corrected; mistakes are told whole, and then nothing is kept."""

import datetime as dt
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from cd4ml.base.settings import load_settings
from cd4ml.delivery.manifest import Release
from cd4ml.production.champion import Champion
from cd4ml.production.feedback import LONGEST, Subject, judge_outcomes
from cd4ml.production.outcome_files import read_outcome
from cd4ml.production.outcomes import (
    OutcomeLog,
    Told,
    find_early_keys,
    find_outcomes,
    read_outcomes,
    summarise_outcomes,
)
from cd4ml.production.predictions import Prediction, PredictionLog
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
        yield client, tmp_path / "log"


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


@pytest.mark.parametrize("key", ["a\u00a0b", "👩\u200d🚀", "a b", "\x1b[8m", "a\u202eb", ""])
def test_a_key_that_may_be_asked_with_may_be_told_of_and_no_other(served: tuple[TestClient, Path], key: str) -> None:
    client, _ = served
    asked = client.post("/predict", json={"rows": [{"x": 1.0, "key": key}]}).status_code
    assert client.post("/feedback", json={"key": key, "outcome": True}).status_code == asked


def test_all_mistakes_are_told_and_nothing_is_kept(served: tuple[TestClient, Path]) -> None:
    client, path = served
    (known,) = predict(client, 1)
    good = {"prediction_id": known, "outcome": True}
    wrong = [good, {"prediction_id": known}, 5, {"prediction_id": 5, "outcome": True},
             {"prediction_id": known, "outcome": 1}, {"prediction_id": known, "outcome": "late"}]
    reply = client.post("/feedback", json={"outcomes": wrong})
    assert reply.status_code == 422
    assert [(one["row"], one["field"]) for one in reply.json()["violations"]] == [
        (1, ""), (2, ""), (3, "prediction_id"), (4, "outcome"), (5, "outcome")]
    reply = client.post("/feedback", json={"outcomes": [good, {"prediction_id": "unknown", "outcome": True}]})
    assert [(one["row"], one["got"]) for one in reply.json()["violations"]] == [(1, "an unknown one")]
    assert not find_outcomes(path).exists()


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
    find_outcomes(path).mkdir()
    reply = client.post("/feedback", json={"prediction_id": known, "outcome": True})
    assert reply.status_code == 503
    assert str(path) not in reply.text
    find_outcomes(path).rmdir()
    assert client.post("/feedback", json={"prediction_id": known, "outcome": True}).status_code == 200


AT = dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC)


def log_keys(path: Path, *named: tuple[str, str], role: str = "champion", at: dt.datetime = AT) -> None:
    log = PredictionLog(path)
    log.append([Prediction(one, "r", at, "toy", 1, {}, {"prediction": True}, 0.01, key, role) for one, key in named])
    log.close()


def test_the_word_that_became_known_last_counts_in_whatever_order_it_comes(served: tuple[TestClient, Path]) -> None:
    client, path = served
    (one,) = predict(client, 1)
    words = [("2013-07-03T00:00:00Z", True), ("2013-07-02", False), ("2013-07-03T02:00:00+02:00", True)]
    for at, outcome in words:
        assert client.post("/feedback", json={"prediction_id": one, "outcome": outcome, "at": at}).status_code == 200
    assert read_outcomes(path, [one]) == {one: True}
    assert OutcomeLog(path).select("select count(*) from outcomes") == [(2,)], "the same word of the same time is one"
    client.post("/feedback", json={"prediction_id": one, "outcome": False, "at": "2013-07-03T00:00:00Z"})
    assert read_outcomes(path) == {one: False}, "of one moment that which arrived last"


def test_an_outcome_by_key_counts_for_all_of_that_key_also_later_ones(served: tuple[TestClient, Path]) -> None:
    client, path = served
    log_keys(path, ("p1", "k1"), ("p2", "k1"), ("p3", "k2"))
    told = {"outcomes": [{"key": "k1", "outcome": True}, {"key": "k9", "outcome": False}]}
    assert client.post("/feedback", json=told).json() == {"problem": "toy", "kept": 2, "waiting": 1}
    assert read_outcomes(path) == read_outcomes(path, ["p1", "p2", "p3"]) == {"p1": True, "p2": True}
    assert find_early_keys(path, "toy") == ["k9"]
    log_keys(path, ("p9", "k9"))
    assert read_outcomes(path, ["p9"]) == {"p9": False}
    assert find_early_keys(path, "toy") == []
    client.post("/feedback", json={"prediction_id": "p1", "outcome": False})
    assert read_outcomes(path) == {"p1": False, "p2": True, "p9": False}
    assert OutcomeLog(path).select("select count(*) from outcomes where problem <> 'toy'") == [(0,)]


def test_a_key_of_another_problem_is_another_key(tmp_path: Path) -> None:
    log_keys(tmp_path / "log", ("p1", "k1"))
    OutcomeLog(tmp_path / "log").append("other", [Told("", "k1", 0, "true")])
    assert read_outcomes(tmp_path / "log") == read_outcomes(tmp_path / "log", ["p1"]) == {}
    assert (find_early_keys(tmp_path / "log", "toy"), find_early_keys(tmp_path / "log", "other")) == ([], ["k1"])


def test_a_shadow_has_the_outcome_of_the_answer(tmp_path: Path) -> None:
    log_keys(tmp_path / "log", ("a", ""), ("b", ""))
    log_keys(tmp_path / "log", ("a~4", ""), ("b~4", ""), role="shadow")
    OutcomeLog(tmp_path / "log").append("toy", [Told("a", "", 5, "true"), Told("b~4", "", 5, "true")])
    assert read_outcomes(tmp_path / "log", ["a", "a~4", "b", "b~4"]) == {"a": True, "a~4": True, "b~4": True}


def test_what_never_came_back_is_counted_by_day(tmp_path: Path) -> None:
    for day in range(3):
        log_keys(tmp_path / "log", *((f"{day}-{i}", f"k{i}" if i % 2 else "") for i in range(10)),
                 at=AT + day * dt.timedelta(days=1))
    log_keys(tmp_path / "log", ("0-0~2", ""), role="shadow")
    assert summarise_outcomes(tmp_path / "log", "toy").waiting[0] == ("2013-07-01", 1, 10)
    OutcomeLog(tmp_path / "log").append("toy", [Told(f"1-{i}", "", 0, "true") for i in range(10)]
                                        + [Told("", "k3", 0, "true")] * 2 + [Told("", "k77", 0, "true")])
    found = summarise_outcomes(tmp_path / "log", "toy")
    assert (found.predictions, found.told, found.early_keys) == (30, 12, 1)
    assert found.waiting == (("2013-07-01", 1, 9), ("2013-07-03", 1, 9))


def test_a_file_of_the_first_version_goes_on(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "log-outcomes.db")) as connection:
        connection.executescript("""create table outcomes (number integer primary key, prediction_id text not null,
            at integer not null, outcome text not null);
            create index outcomes_by_prediction on outcomes (prediction_id, number); pragma user_version = 1;
            insert into outcomes (prediction_id, at, outcome) values ('p1', 5, 'true'), ('p1', 6, 'false'),
            ('p2', 5, 'true'), ('p2', 5, 'true');""")
    assert read_outcomes(tmp_path / "log") == {"p1": False, "p2": True}
    OutcomeLog(tmp_path / "log").append("toy", [Told("p2", "", 7, "false")])
    assert read_outcomes(tmp_path / "log") == {"p1": False, "p2": False}


@pytest.mark.parametrize("wrong", [
    {"prediction_id": "", "outcome": True}, {"key": None, "outcome": True},
    {"key": "x" * (LONGEST + 1), "outcome": True},
    {"key": "a\x00b", "outcome": True}, {"key": ["k"], "outcome": True}, {"prediction_id": {"a": 1}, "outcome": True},
    {"key": "k", "outcome": True, "at": "yesterday"}, {"key": "k", "outcome": True, "at": 5},
    {"key": "k", "outcome": True, "at": "9999-12-31"}, {"key": "k", "outcome": True, "at": "0001-01-01T00:00+14:00"},
    {"key": "k", "outcome": [True]}, {"key": "k", "outcome": {}}, {"key": "k", "outcome": None}, {"key": "k"}, [], "k",
    {"key": "k", "outcome": True, "more": 1}, {"key": "k", "prediction_id": "k", "outcome": True}])
def test_wrong_types_are_refused_and_never_break_anything(served: tuple[TestClient, Path], wrong: object) -> None:
    client, path = served
    reply = client.post("/feedback", json={"outcomes": [wrong, {"key": "good", "outcome": True}]})
    assert reply.status_code == 422
    assert {one["row"] for one in reply.json()["violations"]} == {0}
    assert not find_outcomes(path).exists()
    assert client.get("/health/ready").status_code == 200


def test_numbers_are_outcomes_of_a_regression_and_nothing_else_is() -> None:
    subject = Subject("toy", "regression", ())
    values = [1, 2.5, -0.0, True, "1", None, 1e301, float("nan"), float("inf"), 10**400]
    found = [judge_outcomes(subject, [{"key": "k", "outcome": value}], AT)[0] for value in values]
    assert [bool(told) for told in found] == [True] * 3 + [False] * 7


@pytest.mark.parametrize(("value", "is_text", "expected"), [
    ("1", True, True), ("0", True, False), ("1.0", True, True), (0, False, False), (1.0, False, True), ("2", True, "2"),
    (0.5, False, 0.5), ("1", False, "1"), (None, False, None), ("true", True, True)])
def test_a_table_may_say_1_for_true(value: object, is_text: bool, expected: object) -> None:
    assert read_outcome(Subject("toy", "binary", (False, True)), value, is_text) is expected


def test_a_1_is_itself_where_it_is_a_class_and_nothing_where_classes_are_names() -> None:
    assert read_outcome(Subject("toy", "binary", (0, 1)), "1", True) == 1
    assert type(read_outcome(Subject("toy", "binary", (0, 1)), 1, False)) is int
    assert read_outcome(Subject("toy", "binary", ("no", "yes")), "1", True) == "1"
