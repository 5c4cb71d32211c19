"""Answers over HTTP beside MLflow's server and BentoML with the same forest, and beside the web framework with none."""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from forest import find_bentoml, write_forest
from pairs import BIN, ENVIRON, ROOT, Row, at_most, faster, isolate, make_row, skip_row, within

if TYPE_CHECKING:
    import pandas as pd

PROBLEM, KEY = "flights", "benchmark-of-a-key"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@dataclass(frozen=True)
class Server:
    """Hold a server that runs: where, how long it took until it was ready [s], and the number of its process."""

    address: str
    path: str
    ready: float
    process: int


class Servers(NamedTuple):
    """Hold cd4ml's server, MLflow's, and one that does nothing."""

    ours: Server
    theirs: Server
    bare: Server


@dataclass(frozen=True)
class Asked:
    """Hold files with bodies of one row and of a hundred, in the form of cd4ml and in that of MLflow."""

    ours: dict[int, Path]
    theirs: dict[int, Path]


def measure(turns: int) -> Iterator[Row]:
    """Measure everything; one turn is a short one with few trees."""
    trees, seconds, count = (100, 5.0, 1_000_000) if turns > 1 else (5, 0.5, 1_000)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        asked = write_bodies(folder, write_forest(folder, PROBLEM, trees))
        environ = {**isolate(folder), "CD4ML_PREDICTION_LOG": f"{folder}/predictions", "CD4ML_API_KEYS": KEY}
        mlflow = ["mlflow", "models", "serve", "-m", folder / "mlmodel", "--env-manager", "local", "-p"]
        ours = start(["cd4ml", "serve", PROBLEM, "--port"], environ, "/predict")
        with (ours as mine, start(mlflow, {}, "/invocations", "/health") as theirs,
              start([sys.executable, ROOT / "benchmarks/scripts/noop.py"], {}, "/predict") as bare):
            yield make_row("a server that is ready | mlflow models serve", (mine.ready, theirs.ready), at_most(1))
            yield from measure_answers(Servers(mine, theirs, bare), asked, seconds)
            yield from measure_beside_bentoml(mine, folder, asked, seconds)
            yield measure_memory(mine, asked, count, seconds)


def measure_answers(servers: Servers, asked: Asked, seconds: float) -> Iterator[Row]:
    """Measure what an answer takes, of one row and of a hundred, in turn with who stands beside it."""
    ours, theirs, bare = servers
    for rows, bound in ((1, faster(100)), (100, faster(10))):
        mine, other = load(ours, asked.ours[rows], 64, seconds), load(theirs, asked.theirs[rows], 16, seconds)
        yield make_row(f"{name_request(rows)} | mlflow models serve", (1 / mine["rate"], 1 / other["rate"]), bound)
    mine, other = load(ours, asked.ours[1], 64, seconds), load(bare, asked.ours[1], 64, seconds)
    yield make_row("a request of 1 row | the framework's route that does nothing",
                   (1 / mine["rate"], 1 / other["rate"]), within(1 / 0.7))
    mine, other = load(ours, asked.ours[1], 16, seconds), load(theirs, asked.theirs[1], 16, seconds)
    yield make_row("99 of 100 answers at 16 connections | mlflow models serve", (mine["p99"], other["p99"]),
                   at_most(0.005))
    yield make_row("99 of 100 answers at 16 connections | the disk alone: 99 of 100 writes of 16 rows",
                   (mine["p99"], time_disk(asked.ours[1].parent, seconds)))


def time_disk(folder: Path, seconds: float) -> float:
    """Return how long 99 of 100 durable writes below `folder` take at most [s]: no logged answer is sooner."""
    times, ends = list[float](), time.perf_counter() + seconds
    with (folder / "probe").open("wb", buffering=0) as file:
        while (began := time.perf_counter()) < ends or len(times) < 100:
            file.write(bytes(16_384))
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.quantiles(times, n=100, method="inclusive")[98]


def name_request(rows: int) -> str:
    """Return what a request of so many rows is called."""
    return f"a request of {rows} row{'s' * (rows > 1)} to a forest, checked and logged"


def measure_beside_bentoml(ours: Server, folder: Path, asked: Asked, seconds: float) -> Iterator[Row]:
    """Measure the same beside BentoML, if it can be had."""
    pairs = {rows: f"{name_request(rows)} | bentoml serve" for rows in (1, 100)}
    if (bentoml := find_bentoml()) is None:
        yield from (skip_row(pair, "BentoML could not be installed") for pair in pairs.values())
        return
    words = [bentoml, "serve", "bento:Forest", "--working-dir", ROOT / "benchmarks/scripts", "--port"]
    environ = {"BENCH_MODEL": str(folder / "model.joblib"), "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    with start(words, environ, "/predict", "/readyz") as theirs:
        for rows, pair in pairs.items():
            mine, other = load(ours, asked.ours[rows], 64, seconds), load(theirs, asked.ours[rows], 16, seconds)
            yield make_row(pair, (1 / mine["rate"], 1 / other["rate"]), faster(1))


def measure_memory(ours: Server, asked: Asked, count: int, seconds: float) -> Row:
    """Measure the resident memory [MB] after a tenth of `count` requests and after all of them."""
    done, found = 0, list[float]()
    for goal in (count // 10, count):
        while done < goal:
            done += int(load(ours, asked.ours[1], 64, 2 * seconds)["requests"])
        lines = Path(f"/proc/{ours.process}/status").read_text().splitlines()
        found.append(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")))
    return make_row(f"memory after {count:,} requests [MB] | the same after {count // 10:,}", (found[1], found[0]),
                    within(1.05))


def write_bodies(folder: Path, frame: "pd.DataFrame") -> Asked:
    """Write bodies of rows of `frame`, which are all different."""
    frame = frame.sample(20_000, replace=True, random_state=1)
    rows, split = json.loads(frame.to_json(orient="records")), json.loads(frame.to_json(orient="split", index=False))
    found = Asked({}, {})
    for size in (1, 100):
        starts = range(0, len(rows), size)
        mine = [json.dumps({"rows": rows[i : i + size]}) for i in starts]
        other = [json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"][i : i + size]}})
                 for i in starts]
        for form, texts in (("ours", mine), ("theirs", other)):
            path = getattr(found, form)[size] = folder / f"{form}-{size}.jsonl"
            path.write_text("\n".join(texts))
    return found


@contextlib.contextmanager
def start(words: list[str | Path], environ: dict[str, str], path: str,
          ready: str = "/health/ready") -> Iterator[Server]:
    """Start a server on a free port and on the first core, wait until it is ready, and end it afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program, began = [str(BIN / words[0]), *map(str, words[1:]), str(port)], time.perf_counter()
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as said:
        place = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}  # where MLflow looks for its web server
        process = subprocess.Popen(pin(0, program), cwd=ROOT, env=ENVIRON | place | environ, stdout=said, stderr=said)
        try:
            while not is_ready(address + ready):
                if process.poll() is not None or time.perf_counter() - began > 120:
                    said.seek(0)
                    raise RuntimeError(f"{program[0]} did not serve: {said.read().decode()[-2000:]}")
                time.sleep(0.01)
            yield Server(address, path, time.perf_counter() - began, process.pid)
        finally:
            process.terminate()
            process.wait()


def is_ready(address: str) -> bool:
    """Tell whether `address` answers with 200."""
    try:
        with urllib.request.urlopen(address, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def load(server: Server, bodies: Path, connections: int, seconds: float) -> dict[str, float]:
    """Return what came of loading `server` from a process on the last core."""
    words = [sys.executable, str(ROOT / "benchmarks/load.py"), server.address, server.path, str(bodies),
             str(connections), str(seconds)]
    done = subprocess.run(pin(-1, words), env={**ENVIRON, "LOAD_KEY": KEY}, capture_output=True, text=True)
    told = json.loads(done.stdout) if done.returncode == 0 else {}
    if not told or told["refused"]:
        raise RuntimeError(f"{server.address} refused {told.get('refused', 'all')} requests. {done.stderr[-2000:]}")
    return told


def pin(core: int, words: list[str]) -> list[str]:
    """Return `words` as a command that stays on one core, where there are several."""
    return ["taskset", "-c", str(CORES[core]), *words] if len(CORES) > 1 else words
