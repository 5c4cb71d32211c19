"""By wrk: ten times what a server takes, of which nothing is lost, and very many requests, which leave nothing."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from server_process import promote, serve, write_release
from sklearn.linear_model import LinearRegression
from waiting import wait_until

from cd4ml.base.store import Store
from cd4ml.production.predictions import read_after

pytestmark = [pytest.mark.slow, pytest.mark.services]
KEY = "a-key"
TAKEN = 8  # requests at once
SECONDS = int(os.environ.get("FLOOD_SECONDS", "6"))  # 60 for the whole minute


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store, rows = Store(str(tmp_path / "releases")), pd.DataFrame({"x": [1.0, 2.0, 3.0, 5.0]})
    write_release(store, LinearRegression().fit(rows, rows["x"]), rows, is_portable=True)
    promote(store)
    return store


def ask_status(address: str) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(address, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_until_ready(address: str) -> None:
    wait_until(lambda: ask_status(f"{address}/health/ready")[0] == 200, "ready again", 20)


class Load:
    def __init__(self, wrk: Path, folder: Path, size: int):
        body, self.answered = folder / "body.json", folder / "answered.txt"
        body.write_text(json.dumps({"rows": [{"x": 1.0 + number} for number in range(size)]}))
        self.environ = os.environ | {"BODY": str(body), "ANSWERED": str(self.answered), "KEY": KEY}
        self.wrk = [str(wrk), "-t", "1", "--timeout", "30s", "-s", str(Path(__file__).with_name("flood.lua"))]

    def start(self, address: str, connections: int, seconds: int) -> subprocess.Popen:
        return subprocess.Popen([*self.wrk, "-c", str(connections), "-d", f"{seconds}s", f"{address}/predict"],
                                env=self.environ, text=True, stdout=subprocess.PIPE)


def count(load: subprocess.Popen) -> dict:
    said = load.communicate(timeout=SECONDS + 60)[0]
    return json.loads(said.splitlines()[-1])


@pytest.mark.parametrize("size", [500, 5000])  # answered in the event loop, and in a thread
def test_ten_times_the_load_is_refused_in_words_loses_nothing_and_is_over_when_it_is_over(
        tmp_path: Path, store: Store, find_tool: Callable[[str], Path], size: int) -> None:
    load, seen = Load(find_tool("wrk"), tmp_path, size), list[tuple[int, dict]]()
    with serve(store, "--max-requests", str(TAKEN), CD4ML_API_KEYS=KEY) as (_, address):
        before = count(load.start(address, TAKEN // 2, 2))
        wait_until_ready(address)
        flood = load.start(address, 10 * TAKEN, SECONDS)
        while flood.poll() is None:
            assert ask_status(f"{address}/health/live")[0] == 200
            seen.append(ask_status(f"{address}/health/ready"))
            time.sleep(0.1)
        during = count(flood)
        wait_until_ready(address)
        after = count(load.start(address, 1, 2))  # beside what the flood left under way, at most seven requests
    counted = {"before": before, "during": during, "after": after}
    print(counted)
    for one in counted.values():
        assert one["unclear"] == one["lost"] == one["late"] == 0, counted
        assert one["answered"] > 0, counted
    assert before["refused"] == after["refused"] == 0, counted
    assert during["refused"] >= 9 * during["answered"], counted  # or it was not ten times what it takes
    assert {reason for _, told in seen for reason in told["reasons"]} <= {"it has as many requests as it takes"}
    ids = load.answered.read_text().split()
    assert len(ids) == len(set(ids)) == sum(one["answered"] for one in counted.values())
    logged = Counter(row[1] for row in read_after(tmp_path / "predictions", {}, 10_000_000)[0])
    assert {logged.get(one, 0) for one in ids} == {size}


def test_memory_does_not_grow_with_requests(
        tmp_path: Path, store: Store, find_tool: Callable[[str], Path]) -> None:
    load = Load(find_tool("wrk"), tmp_path, 1)
    with serve(store, CD4ML_API_KEYS=KEY) as (process, address):

        def ask_until(answered: int) -> float:
            while not load.answered.is_file() or load.answered.read_text().count("\n") < answered:
                assert not count(load.start(address, 16, 3))["unclear"]
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024

        first, last = ask_until(15_000), ask_until(75_000)
    print(f"{first:.1f} MB, then {last:.1f} MB")
    assert last < first + 6  # 60,000 requests that each left 100 bytes behind would
