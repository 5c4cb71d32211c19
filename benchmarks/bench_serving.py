"""Answers over HTTP beside MLflow's server with the same model, and beside the web framework with none."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pairs import BIN, ENVIRON, ROOT, Row, at_most, command, faster, isolate, make_row, within

KEY = "benchmark-of-a-key"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@dataclass(frozen=True)
class Server:
    """Hold a server that runs: where, and how long it took until it was ready [s]."""

    address: str
    path: str
    ready: float


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
    """Measure everything; one turn is a short one on a small problem."""
    problem, seconds = ("flights", 5.0) if turns > 1 else ("iris", 0.5)
    with tempfile.TemporaryDirectory() as folder:
        environ = {**isolate(Path(folder)), "CD4ML_PREDICTION_LOG": f"{folder}/predictions"}
        command("cd4ml", "release", problem, environ=environ)()
        asked = write_bodies(Path(folder), problem)
        free = {"MLFLOW_TRACKING_URI": environ["CD4ML_TRACKING_URI"]}
        mlflow = ["mlflow", "models", "serve", "-m", f"models:/{problem}@champion", "--env-manager", "local", "-p"]
        with (start(["cd4ml", "serve", problem, "--port"], environ | {"CD4ML_API_KEYS": KEY}, "/predict") as ours,
              start(mlflow, free, "/invocations") as theirs,
              start([sys.executable, ROOT / "benchmarks/scripts/noop.py"], {}, "/predict") as bare):
            ready = (ours.ready, theirs.ready)
            yield make_row(f"{problem}: a server that is ready | mlflow models serve", ready, at_most(1))
            yield from measure_answers(problem, Servers(ours, theirs, bare), asked, seconds)


def measure_answers(problem: str, servers: Servers, asked: Asked, seconds: float) -> Iterator[Row]:
    """Measure what an answer takes, of one row and of a hundred."""
    ours, theirs, bare = servers
    for rows, bound in ((1, faster(100)), (100, faster(10))):
        mine, other = load(ours, asked.ours[rows], 64, seconds), load(theirs, asked.theirs[rows], 16, seconds)
        what = f"{problem}: a request of {rows} row{'s' * (rows > 1)}, checked and logged"
        yield make_row(f"{what} | mlflow models serve", (1 / mine["rate"], 1 / other["rate"]), bound)
    mine, other = load(ours, asked.ours[1], 64, seconds), load(bare, asked.ours[1], 64, seconds)
    yield make_row(f"{problem}: a request of 1 row | the framework's route that does nothing",
                   (1 / mine["rate"], 1 / other["rate"]), within(1 / 0.7))
    mine, other = load(ours, asked.ours[1], 16, seconds), load(theirs, asked.theirs[1], 16, seconds)
    yield make_row(f"{problem}: 99 of 100 answers at 16 connections | mlflow models serve",
                   (mine["p99"], other["p99"]), at_most(0.005))


def write_bodies(folder: Path, problem: str) -> Asked:
    """Write bodies of the rows of the holdout, which are all different."""
    from cd4ml.base.store import Store
    from cd4ml.data.snapshot import read_snapshot
    from cd4ml.delivery.release import read_release

    release = read_release(Store(str(folder / "releases")), problem, 1)
    frame = read_snapshot(release.data["holdout"], Store(str(folder / "data")))
    frame = frame[[name for name, _ in release.features]].sample(20_000, replace=True, random_state=1)
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
def start(words: list[str | Path], environ: dict[str, str], path: str) -> Iterator[Server]:
    """Start a server on a free port and on the first core, wait until it is ready, and end it afterwards."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    program, began = [str(BIN / words[0]), *map(str, words[1:]), str(port)], time.perf_counter()
    address = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as said:
        place = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}  # where MLflow looks for its web server
        process = subprocess.Popen(pin(0, program), cwd=ROOT, env=ENVIRON | place | environ, stdout=said, stderr=said)
        try:
            while not is_ready(f"{address}{'/health/ready' if path == '/predict' else '/health'}"):
                if process.poll() is not None or time.perf_counter() - began > 120:
                    said.seek(0)
                    raise RuntimeError(f"{program[0]} did not serve: {said.read().decode()[-2000:]}")
                time.sleep(0.01)
            yield Server(address, path, time.perf_counter() - began)
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
