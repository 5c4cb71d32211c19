"""An answer that was given is in the log, whatever becomes of the server: killed under load, or with its disk full."""

import http.client
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model
from cd4ml.production.predictions import read_predictions

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SERVER = """
from cd4ml.base.settings import load_settings
from cd4ml.production.limits import Listening
from cd4ml.production.serving import serve_problem
serve_problem(load_settings(), "toy", Listening(port=0), announce=lambda address, release: print(address, flush=True))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    store, rows = Store(str(folder / "releases")), pd.DataFrame({"x": [1.0, 2.0, 3.0], "n": [1, 2, 3]})
    data = dump_model(LinearRegression().fit(rows, [2.0, 4.0, 6.0]))
    features, run = (("x", "float64"), ("n", "int64")), {"decision": {"status": "pass"}, "metrics": {}}
    release = Release("toy", 1, "2026-01-02T03:04:05+00:00", "regression", "y", features, (), run, {}, None,
                      {"model/model.skops": hash_bytes(data)})
    store.write("toy/1/model/model.skops", data)
    store.write("toy/1/manifest.json", release.to_json())
    add_event(store, "toy", lambda number, _: Event(number, "promote", 1, None, "", "ada", "", "ci"))
    return folder


@contextmanager
def start_server(folder: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    places = {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": str(folder / "releases"),
              "CD4ML_PREDICTION_LOG": str(folder / "predictions")}
    process = subprocess.Popen([sys.executable, "-c", SERVER], env=os.environ | places, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        yield process, process.stdout.readline().strip().removeprefix("http://")
    finally:
        process.kill()
        process.communicate()


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


def test_no_kill_under_load_loses_an_answer_that_was_given(folder: Path) -> None:
    dice, given = random.Random(11), dict[str, float]()
    for _ in range(20):
        with start_server(folder) as (process, host):
            load = Load(host)
            threads = load.start()
            began = time.monotonic()
            while not load.answers:
                assert time.monotonic() - began < 30, "nothing was ever answered"
                time.sleep(0.01)
            time.sleep(dice.uniform(0, 0.5))
            process.kill()
            for thread in threads:
                thread.join(30)
        given |= load.answers
    logged = read_predictions(folder / "predictions", "toy").set_index("prediction_id")["prediction"]
    assert len(given) > 1000
    assert logged.index.is_unique
    assert not given.keys() - set(logged.index)
    assert all(logged[name] == value for name, value in given.items())


def test_a_full_disk_is_said_with_a_503_and_the_server_recovers(folder: Path) -> None:
    with start_server(folder) as (process, host):
        connection = http.client.HTTPConnection(host, timeout=20)
        rows = [{"x": 1.0, "n": 2}]
        assert ask(connection, rows)[0] == 200
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, unlimited[1]))  # no file grows, as on a full disk
        before = len(read_predictions(folder / "predictions", "toy"))
        for _ in range(3):
            status, told = ask(connection, rows * 50)
            assert (status, told["what"]) == (503, "The prediction log cannot be used")
            assert str(folder) not in json.dumps(told)
        assert len(read_predictions(folder / "predictions", "toy")) == before
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        status, told = ask(connection, rows)
        assert status == 200
        assert told["predictions"][0]["prediction_id"] in set(
            read_predictions(folder / "predictions", "toy")["prediction_id"])
