"""An answer that was given is in the log, whatever becomes of the server: killed under load, or with its disk full."""

import http.client
import json
import random
import resource
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
from server_process import PROBLEM, promote, serve, write_release
from sklearn.linear_model import LinearRegression
from waiting import wait_until

from cd4ml.base.store import Store
from cd4ml.production.predictions import read_predictions

pytestmark = pytest.mark.slow

@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("answers") / "releases"))
    rows = pd.DataFrame({"x": [1.0, 2.0, 3.0], "n": [1, 2, 3]})
    write_release(store, LinearRegression().fit(rows, [2.0, 4.0, 6.0]), rows)
    promote(store)
    return store


@pytest.fixture(scope="module")
def log(store: Store) -> Path:
    return Path(store.url).with_name("predictions")


def ask(connection: http.client.HTTPConnection, rows: list[dict]) -> tuple[int, dict]:
    connection.request("POST", "/predict", json.dumps({"rows": rows}), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


@dataclass
class Load:
    """Ask from many threads until the server is gone, and keep what it acknowledged."""

    host: str
    answers: dict[str, float] = field(default_factory=dict)  # by prediction id

    def run(self, seed: int) -> None:
        dice, connection = random.Random(seed), http.client.HTTPConnection(self.host, timeout=20)
        while True:
            rows = [{"x": dice.random(), "n": dice.randrange(9)} for _ in range(dice.choice((1, 1, 1, 40)))]
            try:
                _, told = ask(connection, rows)
            except (OSError, http.client.HTTPException, ValueError):
                return
            self.answers |= {one["prediction_id"]: one["prediction"] for one in told["predictions"]}

    def start(self, threads: int = 8) -> list[threading.Thread]:
        started = [threading.Thread(target=self.run, args=(seed,), daemon=True) for seed in range(threads)]
        for thread in started:
            thread.start()
        return started


def test_no_kill_under_load_loses_an_answer_that_was_given(store: Store, log: Path) -> None:
    dice, given = random.Random(11), dict[str, float]()
    for _ in range(20):
        with serve(store) as (process, address):
            load = Load(urlsplit(address).netloc)
            threads = load.start()
            wait_until(lambda load=load: load.answers, "an answer", 30)
            time.sleep(dice.uniform(0, 0.5))
            process.kill()
            for thread in threads:
                thread.join(30)
        given |= load.answers
    logged = read_predictions(log, PROBLEM).set_index("prediction_id")["prediction"]
    assert len(given) > 1000
    assert logged.index.is_unique
    assert not given.keys() - set(logged.index)
    assert all(logged[name] == value for name, value in given.items())


def test_a_full_disk_is_said_with_a_503_and_the_server_recovers(store: Store, log: Path) -> None:
    with serve(store, PYTHONDONTWRITEBYTECODE="1") as (process, address):  # as test_bad_input.py says
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
        rows = [{"x": 1.0, "n": 2}]
        assert ask(connection, rows)[0] == 200
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, unlimited[1]))  # no file grows, as on a full disk
        before = len(read_predictions(log, PROBLEM))
        for _ in range(3):
            status, told = ask(connection, rows * 50)
            assert (status, told["what"]) == (503, "The prediction log cannot be used")
            assert str(log.parent) not in json.dumps(told)
        assert len(read_predictions(log, PROBLEM)) == before
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        status, told = ask(connection, rows)
        assert status == 200
        assert told["predictions"][0]["prediction_id"] in set(read_predictions(log, PROBLEM)["prediction_id"])
