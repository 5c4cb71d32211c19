"""A server whose events go to all sinks beside the same server without any."""

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bench_serving import KEY, load, pin, start, write_bodies
from pairs import BIN, ENVIRON, ROOT, Row, command, isolate, make_row, within

if TYPE_CHECKING:
    import pandas as pd


def read_holdout(folder: Path, problem: str) -> "pd.DataFrame":
    """Return the features of the rows that release 1 was judged on."""
    from cd4ml.base.store import Store
    from cd4ml.data.snapshot import read_snapshot
    from cd4ml.delivery.release import read_release

    release = read_release(Store(str(folder / "releases")), problem, 1)
    return read_snapshot(release.data["holdout"], Store(str(folder / "data")))[[name for name, _ in release.features]]


def measure(turns: int) -> Iterator[Row]:
    """Measure everything; one turn is a short one on a small problem."""
    problem, seconds = ("flights", 5.0) if turns > 1 else ("iris", 0.5)
    with tempfile.TemporaryDirectory() as folder, take_all() as sinks:
        environ = isolate(Path(folder)) | {"CD4ML_API_KEYS": KEY}
        command("cd4ml", "release", problem, environ=environ)()
        asked = write_bodies(Path(folder), read_holdout(Path(folder), problem)).ours[1]
        both = [environ | {"CD4ML_PREDICTION_LOG": f"{folder}/{name}/predictions"} for name in ("with", "without")]
        both[0] |= sinks
        found: list[list[dict[str, float]]] = [[], []]
        for turn in range(turns + (turns > 1)):
            for place, one in enumerate(both):
                with start(["cd4ml", "serve", problem, "--port"], one, "/predict") as server:
                    load(server, asked, 64, seconds / 5)
                    before = wait_for_sinks(server.address)
                    told = load(server, asked, 64, seconds)
                    told["shipped"] = (count_shipped(server.address) - before) / told["requests"]
                if turn or turns == 1:
                    found[place].append(told)
        rates, slowest = ([statistics.median(one[name] for one in some) for some in found] for name in ("rate", "p99"))
        shipped = statistics.median(one["shipped"] for one in found[0])
        yield make_row(f"{problem}: a request of 1 row at 64 connections, all sinks on | no sink",
                       (1 / rates[0], 1 / rates[1]), within(1 / 0.6), note=f"{shipped:.0%} shipped meanwhile")
        yield make_row(f"{problem}: 99 of 100 of these answers | no sink", (slowest[0], slowest[1]))
        yield measure_shipping(problem, both, sum(one["requests"] for one in found[1]))


def look_at_sinks(address: str) -> list[int]:
    """Return how many events each sink of the server at `address` has."""
    with urllib.request.urlopen(f"{address}/health/ready", timeout=10) as answer:
        return [one["delivered"] for one in json.loads(answer.read())["sinks"]]


def count_shipped(address: str) -> float:
    """Return how many events a sink of the server at `address` has, on average; 0 without sinks."""
    return statistics.fmean(look_at_sinks(address) or [0])


def wait_for_sinks(address: str) -> float:
    """Wait until each sink has something, so that all of them are at work; return how many events they have."""
    began = time.perf_counter()
    while not all(look_at_sinks(address)):
        if time.perf_counter() - began > 120:
            raise RuntimeError("nothing is shipped")
        time.sleep(0.05)
    return count_shipped(address)


def measure_shipping(problem: str, both: list[dict[str, str]], count: float) -> Row:
    """Measure how long it takes to ship the log of the server without sinks to Fluentd, beside its answers."""
    address = both[0]["CD4ML_SINKS"].partition(",")[0]
    began = time.perf_counter()
    done = subprocess.run([BIN / "cd4ml", "ship", problem, "--once", "--to", address, "--json"], cwd=ROOT,
                          env=ENVIRON | both[1], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"cd4ml ship ended with {done.returncode}: {done.stderr[-2000:]}")
    shipped = json.loads(done.stdout)["sinks"][0]["delivered"]
    spent = time.perf_counter() - began
    return make_row(f"{problem}: an event shipped to Fluentd afterwards | an answer at 64 connections",
                    (spent / shipped, spent / count), note=f"{shipped} events")


@contextlib.contextmanager
def take_all() -> Iterator[dict[str, str]]:
    """Run the other sides of all sinks, and yield the environment that names them."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        fluentd, web = one.getsockname()[1], two.getsockname()[1]
    words = [sys.executable, str(ROOT / "benchmarks/scripts/takers.py"), str(fluentd), str(web)]
    process = subprocess.Popen(pin(-1, words), env=ENVIRON)
    at = f"127.0.0.1:{web}"
    sinks = (f"fluentd://127.0.0.1:{fluentd}", f"elasticsearch+http://{at}", f"otlp+http://{at}", "azure://",
             "cloudwatch://eu-central-1/models")
    key = "InstrumentationKey=00000000-0000-0000-0000-000000000001"
    try:
        yield {"CD4ML_SINKS": ", ".join(sinks), "AWS_ENDPOINT_URL_CLOUDWATCH": f"http://{at}",
               "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
               "APPLICATIONINSIGHTS_CONNECTION_STRING": f"{key};IngestionEndpoint=http://{at}/"}
    finally:
        process.kill()
        process.wait()
