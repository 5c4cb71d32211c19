"""The log in a real Postgres: several servers, the database gone and back under load, a server killed."""

import datetime as dt
import http.client
import json
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from server_process import PROBLEM, promote, serve, write_release
from sklearn.linear_model import LinearRegression
from waiting import wait_until

from cd4ml.base.errors import StoreError
from cd4ml.base.store import Store
from cd4ml.production.events import Cursor, read_events
from cd4ml.production.leases import DatabaseLease
from cd4ml.production.outcomes import OutcomeLog, Told, find_early_keys, read_outcomes, summarise_outcomes
from cd4ml.production.parts import DuplicateError
from cd4ml.production.places import list_parts
from cd4ml.production.predictions import (
    Prediction,
    PredictionLog,
    find_unlogged,
    make_id,
    make_row,
    read_after,
    read_predictions,
    recall_predictions,
    summarise_log,
)
from cd4ml.production.queries import LogQuery, count_predictions, find_predictions, read_condition
from cd4ml.production.retention import prune_log, write_cursor
from cd4ml.production.sinks import read_sinks

pytestmark = [pytest.mark.services, pytest.mark.slow]
AT, SECRET = dt.datetime(2013, 7, 1, 12, tzinfo=dt.UTC), "s3cret-w0rd"  # of the database, as conftest.py makes it


def make_prediction(name: str, at: dt.datetime = AT, key: str = "", release: int = 1) -> Prediction:
    features = {"a": 1.5, "b": "Zürich \t\\ \n'"}
    return Prediction(name, "r", at, PROBLEM, release, features, {"prediction": 2.5}, 0.01, key)


def test_the_same_questions_have_the_same_answers_as_in_files(address: str, tmp_path: Path) -> None:
    rows = [make_prediction(f"p{i}", AT + i * dt.timedelta(hours=7), f"k{i % 4}" if i % 3 else "", 1 + i // 6)
            for i in range(12)]
    told = [Told("p0", "", 5, "true"), Told("p0", "", 4, "false"), Told("p0", "", 5, "true"),
            Told("", "k1", 1, "false"), Told("", "k9", 1, "true")]
    found = []
    for place in (address, tmp_path / "log"):
        log = PredictionLog(place)
        log.append(rows[:7])
        with pytest.raises(DuplicateError):
            log.append([make_prediction("new"), make_prediction("p3", AT + dt.timedelta(days=9))])
        log.append(rows[7:])
        OutcomeLog(place).append(PROBLEM, told)
        found.append([
            summarise_log(place, PROBLEM), find_unlogged(place, PROBLEM, ["p1", "new", "p11"]),
            recall_predictions(place, ["p2", "p3", "p99", "p4"]), read_outcomes(place),
            summarise_outcomes(place, PROBLEM),
            read_outcomes(place, ["p0", "p0~4", "p1", "p2", "p5"]), find_early_keys(place, PROBLEM),
            find_predictions(place, LogQuery(PROBLEM, since=AT + dt.timedelta(hours=20)), 4),
            find_predictions(place, LogQuery(PROBLEM, key="k1", where=(read_condition("a>1", AT),))),
            find_predictions(place, LogQuery(PROBLEM, prediction_id="p3")),
            count_predictions(place, LogQuery(PROBLEM), "day"),
            count_predictions(place, LogQuery(PROBLEM, key="k1"), "release"),
            count_predictions(place, LogQuery(PROBLEM, until=AT + dt.timedelta(hours=30)), "day"),
            read_predictions(place, PROBLEM, AT + dt.timedelta(hours=8)).to_dict("list"),
            [row[0] for row in read_after(place, {}, 100)[0]]])
        log.close()
    for ours, theirs in zip(*found, strict=True):
        assert ours == theirs


def test_a_reader_gets_every_row_of_several_writers_once_and_in_order(address: str) -> None:
    def write(number: int) -> None:
        log = PredictionLog(address)
        for turn in range(40):
            log.append([make_prediction(f"{number}-{turn}-{i}") for i in range(1 + turn % 3)])
        log.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    seen, cursor = list[str](), dict[str, int]()
    is_last, rows = False, []
    while not is_last or rows:
        is_last = not any(thread.is_alive() for thread in threads)
        rows, cursor = read_after(address, cursor, 50)
        seen += [row[0] for row in rows]
    assert len(seen) == len(set(seen)) == 4 * 79
    assert [one for one in seen if one.startswith("2-")] == [f"2-{t}-{i}" for t in range(40) for i in range(1 + t % 3)]


def test_a_follower_gets_every_outcome_of_several_writers_once_and_in_order(address: str) -> None:
    log = PredictionLog(address)
    log.append([make_prediction(f"p{number}") for number in range(4)])
    log.close()

    def write(number: int) -> None:
        for turn in range(25):
            OutcomeLog(address).append(PROBLEM, [Told(f"p{number}", "", turn, str(i)) for i in range(1 + turn % 3)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    cursor, seen = Cursor(read_after(address, {}, 10)[1]), list[str]()
    is_last, found = False, []
    while not is_last or found:
        is_last = not any(thread.is_alive() for thread in threads)
        found, cursor = read_events(address, PROBLEM, cursor, 7)
        seen += [one.id for one in found]
    assert len(seen) == len(set(seen)) == 4 * 49
    numbers = [int(one.rpartition("-")[2]) for one in seen]
    assert numbers == sorted(numbers)


def test_totals_are_exact_and_old_days_go_when_they_were_seen(address: str) -> None:
    log = PredictionLog(address)
    for day in range(4):
        at = AT + day * dt.timedelta(days=1)
        log.write([(make_id(at), *make_row(make_prediction("x", at, "k"))[1:]) for _ in range(3000)])
    log.append([make_prediction("last", at)])
    assert [one.count for one in count_predictions(address, LogQuery(PROBLEM), "day")] == [3000, 3000, 3000, 3001]
    OutcomeLog(address).append(PROBLEM, [Told("last", "", 1, "1"), Told("", "k", 1, "1")])
    write_cursor(address, "shipper", read_after(address, {}, 4000)[1])
    assert (prune_log(address, 1, at).removed, len(prune_log(address, 1, at).kept)) == ((), 2)
    write_cursor(address, "shipper", read_after(address, {}, 100_000)[1])
    assert prune_log(address, 1, at).removed == ("2013-07-01", "2013-07-02")
    assert summarise_log(address, PROBLEM).count == 6001
    assert len(read_outcomes(address)) == 6001
    assert len(list_parts(address)) == 1


def test_a_prune_keeps_what_a_sink_has_not_heard_and_makes_it_hear_nothing_again(address: str) -> None:
    log, later = PredictionLog(address), AT + dt.timedelta(days=9)
    log.append([make_prediction("old"), make_prediction("key", key="k"), make_prediction("new", later)])
    for told in (Told("new", "", 1, "1"), Told("", "k", 1, "1"), Told("old", "", 1, "1")):
        OutcomeLog(address).append(PROBLEM, [told])
    lease = DatabaseLease(address, PROBLEM, read_sinks("fluentd://h")[0])
    assert lease.acquire()
    cursor = read_events(address, PROBLEM, Cursor(), 10)[1]
    lease.write(replace(lease.read(), cursor=Cursor(cursor.predictions, cursor.outcomes - 1)))
    assert prune_log(address, 1, later).kept == ("2013-07-01",)
    lease.write(replace(lease.read(), cursor=cursor))
    assert prune_log(address, 1, later).removed == ("2013-07-01",)
    assert read_events(address, PROBLEM, cursor, 10) == ([], cursor)
    assert read_outcomes(address)["new"] == 1
    lease.release()
    log.close()


def test_no_message_holds_the_password(postgres: Any) -> None:
    wrong = postgres.address.replace("w0rd", "word")
    for use in (lambda: PredictionLog(wrong), lambda: summarise_log(wrong, PROBLEM),
                lambda: PredictionLog(postgres.address.replace("/postgres", "/nothing"))):
        with pytest.raises(StoreError) as caught:
            use()
        assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(list_parts(postgres.address))
    assert SECRET not in PredictionLog(postgres.address).where


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store, rows = Store(str(tmp_path_factory.mktemp("served") / "releases")), pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    write_release(store, LinearRegression().fit(rows, [2.0, 4.0, 6.0]), rows)
    promote(store)
    return store


@contextmanager
def start_server(store: Store, address: str) -> Iterator[tuple[subprocess.Popen, str]]:
    log = address.replace(SECRET, "${DB_WORD}")
    with serve(store, DB_WORD=SECRET, CD4ML_PREDICTION_LOG=log) as (process, found):
        yield process, found.removeprefix("http://")


@dataclass
class Load:
    """Ask from many threads until it is told to stop, or the server is gone; keep what was acknowledged."""

    host: str
    answers: dict[str, float] = field(default_factory=dict)
    told: dict[str, float] = field(default_factory=dict)  # outcomes by prediction id
    statuses: list[int] = field(default_factory=list)
    bodies: set[str] = field(default_factory=set)
    is_stopped: bool = False

    def ask(self, connection: http.client.HTTPConnection, path: str, body: object) -> tuple[int, dict]:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        status, told = reply.status, json.loads(reply.read())
        self.statuses.append(status)
        if status != 200:
            self.bodies.add(json.dumps(told))
        return status, told

    def run(self, seed: int) -> None:
        dice, connection = random.Random(seed), http.client.HTTPConnection(self.host, timeout=60)
        while not self.is_stopped:
            try:
                rows = [{"x": dice.random()}] * dice.choice((1, 1, 5))
                status, told = self.ask(connection, "/predict", {"rows": rows})
                if status != 200:
                    time.sleep(0.02)
                    continue
                self.answers |= {one["prediction_id"]: one["prediction"] for one in told["predictions"]}
                one = told["predictions"][0]["prediction_id"]
                outcome = {"prediction_id": one, "outcome": seed}
                if dice.random() < 0.1 and self.ask(connection, "/feedback", outcome)[0] == 200:
                    self.told[one] = seed
            except (OSError, http.client.HTTPException, ValueError):
                return

    def start(self, threads: int = 6) -> list[threading.Thread]:
        started = [threading.Thread(target=self.run, args=(seed,), daemon=True) for seed in range(threads)]
        for thread in started:
            thread.start()
        return started


def check_log(address: str, answers: dict[str, float], told: dict[str, float]) -> None:
    rows, _ = read_after(address, {}, 10**7)
    logged = {row[0]: json.loads(row[6])["prediction"] for row in rows}
    assert len(logged) == len(rows), "doubled"
    assert not answers.keys() - logged.keys(), "lost"
    assert all(logged[one] == value for one, value in answers.items())
    assert summarise_log(address, PROBLEM).count == len(rows)
    kept = read_outcomes(address)
    assert all(kept[one] == value for one, value in told.items())


def test_the_database_stops_and_starts_under_load(postgres: Any, address: str, store: Store) -> None:
    # Nobody reads what the servers say meanwhile: a line for each refusal would fill the pipe, and stop them for good.
    with start_server(store, address) as (_, first), start_server(store, address) as (_, second):
        loads = [Load(first), Load(second)]
        threads = [thread for load in loads for thread in load.start()]
        wait_until(lambda: all(len(load.told) > 3 for load in loads), "outcomes")
        for _ in range(3):
            postgres.stop()
            marks = [load.statuses.count(503) for load in loads]
            wait_until(lambda marks=marks: all(load.statuses.count(503) > mark + 300 for load, mark in
                                               zip(loads, marks, strict=True)), "refusals by each")
            connection = http.client.HTTPConnection(first, timeout=30)
            connection.request("GET", "/health/ready")
            ready = connection.getresponse()
            assert (ready.status, b"prediction log" in ready.read()) == (503, True)
            postgres.start()
            counts = [len(load.answers) for load in loads]
            wait_until(lambda counts=counts: all(len(load.answers) > count + 20 for load, count in
                                                 zip(loads, counts, strict=True)), "answers by each")
        for load in loads:
            load.is_stopped = True
        for thread in threads:
            thread.join(60)
        connection = http.client.HTTPConnection(second, timeout=30)
        connection.request("GET", "/health/ready")
        assert connection.getresponse().status == 200
    assert {status for load in loads for status in load.statuses} == {200, 503}
    assert not any("s3cret" in body for load in loads for body in load.bodies)
    check_log(address, loads[0].answers | loads[1].answers, loads[0].told | loads[1].told)


def test_a_killed_server_loses_nothing_that_it_acknowledged(address: str, store: Store) -> None:
    answers, told, dice = dict[str, float](), dict[str, float](), random.Random(3)
    for _ in range(5):
        with start_server(store, address) as (process, host):
            load = Load(host)
            threads = load.start()
            wait_until(lambda load=load: load.answers, "an answer")
            time.sleep(dice.uniform(0, 0.5))
            process.kill()
            for thread in threads:
                thread.join(60)
        answers, told = answers | load.answers, told | load.told
    assert len(answers) > 50
    check_log(address, answers, told)
