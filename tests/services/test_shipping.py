"""Events on their way from a real server to a real collector, while either of them, or what is between, goes away."""

import datetime as dt
import http.client
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from server_process import COMMAND, PROBLEM, ROOT, promote, write_release
from sklearn.linear_model import LinearRegression
from waiting import find_port, wait_until

from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.production.leases import DatabaseLease, LeaseError, hold_sink
from cd4ml.production.outcomes import OutcomeLog, Told
from cd4ml.production.predictions import LogRow, PredictionLog, read_after, read_predictions
from cd4ml.production.retention import prune_log
from cd4ml.production.shipping import BATCH_EVENTS, examine_sinks
from cd4ml.production.sinks import Refusal, read_sinks

pytestmark = [pytest.mark.slow, pytest.mark.services]
LIBRARY = ROOT / ".ci-tools/node_modules/@fluent-org/logger"


@dataclass
class Collector:
    """The forward protocol's other side, by those who wrote it for Node; what it took over is in `file`."""

    node: Path
    file: Path
    key: str = ""
    certificate: tuple[Path, ...] = ()
    port: int = field(default_factory=find_port)
    process: subprocess.Popen | None = None

    def start(self) -> None:
        words = [str(self.node), str(ROOT / "tests/services/collector.cjs"), str(LIBRARY), str(self.port),
                 str(self.file), *([self.key] if self.key else []), *map(str, self.certificate)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout.readline() == "listening\n"

    def stop(self, how: int = signal.SIGTERM) -> None:
        os.killpg(self.process.pid, how)  # PyPI's node is a script that starts the real one
        self.process.wait(20)

    def read(self) -> list[dict]:
        lines = self.file.read_text().split("\n")[:-1] if self.file.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture
def collector(find_tool: Callable[[str], Path], tmp_path: Path) -> Iterator[Collector]:
    find_tool("fluent-server")
    one = Collector(find_tool("node"), tmp_path / "collected.jsonl")
    one.start()
    yield one
    if one.process.poll() is None:
        one.stop(signal.SIGKILL)


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """The environment of a workbench with one release, which answers two times x."""
    store, rows = Store(str(tmp_path / "releases")), pd.DataFrame({"x": [1.0, 2.0, 3.0, 5.0]})
    write_release(store, LinearRegression().fit(rows, 2 * rows["x"]), rows, is_portable=True)
    promote(store)
    return {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": store.url, "CD4ML_RUN_STORE": str(tmp_path / "runs"),
            "CD4ML_PREDICTION_LOG": str(tmp_path / "log" / "predictions"), "CD4ML_SITE": str(tmp_path / "site"),
            "CD4ML_DATA_STORE": str(tmp_path / "data"), "CD4ML_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}


def call(places: dict[str, str], *words: str, code: int = 0) -> dict:
    done = subprocess.run([COMMAND, *words, "--json"], env=os.environ | places, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def serve(places: dict[str, str], port: int) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([COMMAND, "serve", PROBLEM, "--port", str(port)], env=os.environ | places)
    try:
        wait_until(lambda: look(port)[0] == 200, "the server is ready")
        yield process
    finally:
        process.kill()
        process.wait()


def look(port: int) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=20) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, {}


def test_a_sink_that_its_library_refuses_is_away_and_the_others_go_on(
        places: dict[str, str], collector: Collector) -> None:
    places |= {"CD4ML_SINKS": f"azure://, fluentd://127.0.0.1:{collector.port}",
               "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=none"}
    PredictionLog(Path(places["CD4ML_PREDICTION_LOG"])).write(make_rows(5))
    with serve(places, port := find_port()):
        wait_until(lambda: look(port)[1]["sinks"][0]["status"] == "away", "the state of the first is told")
        wait_until(lambda: len(collector.read()) == 5, "the second gets all")
        assert "nstrumentation" in look(port)[1]["sinks"][0]["error"]


def find_shipper(server: subprocess.Popen) -> psutil.Process | None:
    return next((one for one in psutil.Process(server.pid).children() if "ship" in one.cmdline()), None)


@dataclass
class Load:
    """Ask from some threads until told to stop, and keep what was acknowledged; a server that is away is waited for."""

    port: int
    ids: list[str] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seed: int) -> None:
        dice, connection = random.Random(seed), None
        while not self.stop.is_set():
            rows = [{"x": dice.random()} for _ in range(dice.choice((1, 1, 1, 30)))]
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
                connection.request("POST", "/predict", json.dumps({"rows": rows}), {"Content-Type": "application/json"})
                reply = connection.getresponse()
                told = json.loads(reply.read())
            except (OSError, http.client.HTTPException, ValueError):
                connection = None
                time.sleep(0.05)
                continue
            if reply.status == 200:
                self.ids += [one["prediction_id"] for one in told["predictions"]]
            else:
                self.faults.append(reply.status)
            time.sleep(0.02)

    @contextmanager
    def on(self) -> Iterator["Load"]:
        threads = [threading.Thread(target=self.run, args=(seed,), daemon=True) for seed in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self.stop.set()
            for thread in threads:
                thread.join(30)

    def wait_for(self, more: int) -> None:
        wanted = len(self.ids) + more
        wait_until(lambda: len(self.ids) >= wanted, "the server answers")


def test_nothing_is_lost_while_collector_shipper_and_server_are_stopped_and_killed_under_load(
        places: dict[str, str], collector: Collector) -> None:
    places["CD4ML_SINKS"] = f"fluentd://127.0.0.1:{collector.port}"
    port, cuts, load = find_port(), 0, Load(find_port())
    load.port = port
    with load.on():
        with serve(places, port) as server:
            load.wait_for(1000)
            wait_until(lambda: len(collector.read()) > 500, "the collector is sent something")
            for how in (signal.SIGTERM, signal.SIGKILL):
                collector.stop(how)
                wait_until(lambda: look(port)[1]["sinks"][0]["status"] == "away", "the server says so")
                load.wait_for(1000)  # it goes on
                status, told = look(port)
                assert (status, told["status"], told["sinks"][0]["behind"] > 0) == (200, "ready", True)
                assert "cannot" in told["sinks"][0]["error"] or "not acknowledge" in told["sinks"][0]["error"]
                collector.start()
                cuts += 1
                wait_until(lambda: look(port)[1]["sinks"][0]["status"] == "well", "it is back")
            for _ in range(3):
                wait_until(lambda: find_shipper(server) is not None, "somebody ships")
                time.sleep(random.uniform(0.5, 1.5))
                find_shipper(server).kill()
                cuts += 1
                load.wait_for(500)
            orphan = find_shipper(server)
            server.kill()
            cuts += 1
        if orphan:
            orphan.wait(10)  # it does not outlive its server
        assert not load.faults
        with serve(places, port):
            load.wait_for(500)
            load.stop.set()
            wait_until(lambda: not set(load.ids) - {one["record"]["id"] for one in collector.read()}, "all are there")
    collected = Counter(one["record"]["id"] for one in collector.read())
    logged = read_predictions(places["CD4ML_PREDICTION_LOG"], PROBLEM)
    assert not collected.keys() - set(logged["prediction_id"])
    assert sum(times - 1 for times in collected.values()) <= cuts * BATCH_EVENTS
    assert {one["tag"] for one in collector.read()} == {f"cd4ml.{PROBLEM}.prediction"}
    assert not load.faults


def make_rows(count: int, stem: str = "p") -> list[LogRow]:
    return [(f"{stem}{i}", "r", 1372680000000 + i, PROBLEM, 1, '{"x": 1.5}', '{"prediction": 3.0}', "", "champion", 0.1)
            for i in range(count)]


def test_once_ships_what_waits_and_doctor_tells_what_does_not(places: dict[str, str], collector: Collector) -> None:
    log = PredictionLog(Path(places["CD4ML_PREDICTION_LOG"]))
    log.write(make_rows(3 * BATCH_EVENTS + 7))
    to = f"fluentd://127.0.0.1:{collector.port}"
    told = call(places, "ship", PROBLEM, "--once", "--to", to)
    assert (told["sinks"][0]["delivered"], told["sinks"][0]["behind"]) == (3 * BATCH_EVENTS + 7, 0)
    assert [one["record"]["id"] for one in collector.read()] == [row[0] for row in make_rows(3 * BATCH_EVENTS + 7)]
    assert collector.read()[0]["record"]["features"] == {"x": 1.5}
    assert call(places, "ship", PROBLEM, "--once", "--to", to)["sinks"][0]["delivered"] == 3 * BATCH_EVENTS + 7

    collector.stop()
    log.write(make_rows(20, "q"))
    told = call(places, "ship", PROBLEM, "--once", "--to", to, code=2)
    assert told["what"] == "The collector does not acknowledge"
    places["CD4ML_SINKS"] = to
    subject = f"{PROBLEM} → {to}"
    found = {one["subject"]: one for one in call(places, "doctor", code=2)["findings"]}[subject]
    assert (found["is_good"], "20 wait" in found["finding"]) == (False, True)
    collector.start()
    assert call(places, "ship", PROBLEM, "--once")["sinks"][0]["behind"] == 0
    assert len(collector.read()) == 3 * BATCH_EVENTS + 27


@pytest.mark.parametrize("scheme", ["fluentd", "fluentd+tls"])
def test_a_collector_with_a_key_takes_events_from_those_who_know_it(
        places: dict[str, str], find_tool: Callable[[str], Path], tmp_path: Path, scheme: str,
        own_certificate: tuple[Path, Path]) -> None:
    find_tool("fluent-server")
    certificate = own_certificate if scheme == "fluentd+tls" else ()
    collector = Collector(find_tool("node"), tmp_path / "collected.jsonl", "of-the-collector", certificate)
    collector.start()
    try:
        PredictionLog(Path(places["CD4ML_PREDICTION_LOG"])).write(make_rows(5))
        words = ("ship", PROBLEM, "--once", "--to", f"{scheme}://127.0.0.1:{collector.port}/shop")
        if certificate:
            told = call(places | {"CD4ML_FLUENTD_KEY": "of-the-collector"}, *words, code=2)
            assert "certificate verify failed" in told["got"]
            places["SSL_CERT_FILE"] = str(certificate[0])
        told = call(places | {"CD4ML_FLUENTD_KEY": "a-guess"}, *words, code=2)
        assert "CD4ML_FLUENTD_KEY" in told["got"]
        assert "a-guess" not in json.dumps(told)
        assert collector.read() == []
        assert call(places | {"CD4ML_FLUENTD_KEY": "of-the-collector"}, *words)["sinks"][0]["delivered"] == 5
        assert {one["tag"] for one in collector.read()} == {f"shop.{PROBLEM}.prediction"}
    finally:
        collector.stop()


def test_a_full_disk_doubles_no_more_than_one_batch(places: dict[str, str], collector: Collector) -> None:
    places["PYTHONDONTWRITEBYTECODE"] = "1"  # as tests/faults/test_bad_input.py says
    log, to = PredictionLog(Path(places["CD4ML_PREDICTION_LOG"])), f"fluentd://127.0.0.1:{collector.port}"
    log.write(make_rows(10))
    process = subprocess.Popen([COMMAND, "ship", PROBLEM, "--to", to], env=os.environ | places, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: len(collector.read()) == 10, "the first are there")
        unlimited = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (50, unlimited[1]))  # no file grows, as on a full disk
        log.write(make_rows(2 * BATCH_EVENTS, "q"))
        time.sleep(3)
        assert len(collector.read()) <= 10 + BATCH_EVENTS  # the cursor comes before the next batch
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
        wait_until(lambda: len(collector.read()) == 10 + 2 * BATCH_EVENTS, "the rest is there")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()
    assert call(places, "ship", PROBLEM, "--once", "--to", to)["sinks"][0]["delivered"] == 10 + 2 * BATCH_EVENTS
    assert max(Counter(one["record"]["id"] for one in collector.read()).values()) == 1


def test_a_collector_that_hangs_or_talks_nonsense_keeps_nobody_waiting_but_itself(
        places: dict[str, str], collector: Collector) -> None:
    held: list[socket.socket] = []

    def accept(server: socket.socket, words: bytes) -> None:
        with server:
            while True:
                try:
                    held.append(server.accept()[0])
                    held[-1].sendall(words)
                except OSError:
                    return

    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    for server, words in zip(servers, (b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"), strict=True):
        threading.Thread(target=accept, args=(server, words), daemon=True).start()
    ports = [collector.port, *(server.getsockname()[1] for server in servers)]
    places["CD4ML_SINKS"] = ", ".join(f"fluentd://127.0.0.1:{port}" for port in ports)
    port = find_port()
    load = Load(port)
    with serve(places, port) as server:
        with load.on():
            load.wait_for(1000)
            wait_until(lambda: [one["status"] for one in look(port)[1]["sinks"]] == ["well", "away", "away"],
                       "the state of each is told")
            find_shipper(server).send_signal(signal.SIGSTOP)  # not even a process that stands still matters
            load.wait_for(1000)
            find_shipper(server).send_signal(signal.SIGCONT)
        assert not load.faults
        wait_until(lambda: not set(load.ids) - {one["record"]["id"] for one in collector.read()}, "all are there")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as reply:
            metrics = reply.read().decode()
        away = [float(value) for value in re.findall(r"^cd4ml_sink_away_seconds\{.*\} (\S+)$", metrics, re.M)]
        assert [one > 0 for one in away] == [False, True, True]
        behind = map(float, re.findall(r"^cd4ml_sink_behind_events\{.*\} (\S+)$", metrics, re.M))
        assert sum(behind) >= 2 * len(load.ids)
        shipper = find_shipper(server)
        server.send_signal(signal.SIGINT)  # a sink that hangs keeps no server from its end
        assert server.wait(60) == 0
        assert not shipper.is_running()
    for server in servers:
        server.close()


def test_a_server_whose_disk_was_full_has_told_all_that_it_acknowledged_and_nothing_else(
        places: dict[str, str], collector: Collector) -> None:
    places |= {"CD4ML_SINKS": f"fluentd://127.0.0.1:{collector.port}",
               "PYTHONDONTWRITEBYTECODE": "1"}  # as tests/faults/test_bad_input.py says
    port = find_port()
    load = Load(port)
    with serve(places, port) as server:
        with load.on():
            load.wait_for(200)
            unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (1000, unlimited[1]))  # no file grows: the disk is full
            wait_until(lambda: bool(load.faults), "it says that it cannot log")
            wait_until(lambda: look(port)[0] == 503, "it says that it is not ready")
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)
            wait_until(lambda: look(port)[0] == 200, "it is ready again")
            load.wait_for(200)
        assert set(load.faults) == {503}
        wait_until(lambda: not set(load.ids) - {one["record"]["id"] for one in collector.read()}, "all are there")
    collected = [one["record"]["id"] for one in collector.read()]
    assert len(collected) == len(set(collected))
    logged = read_predictions(places["CD4ML_PREDICTION_LOG"], PROBLEM)
    assert set(collected) == set(logged["prediction_id"])


SKEWED = """
import datetime as dt, random
from cd4ml.base.settings import load_settings
from cd4ml.production.limits import Listening
from cd4ml.production.service import ServeOptions
from cd4ml.production.serving import serve_problem
def clock():
    return dt.datetime.now(dt.UTC) + dt.timedelta(days=random.choice((-20000, -400, -0.01, 0, 0.01, 400, 30000)))
serve_problem(load_settings(), "flights", Listening(port=PORT), ServeOptions(clock=clock))
"""


def test_a_server_whose_clock_jumps_by_years_tells_each_event_once(
        places: dict[str, str], collector: Collector) -> None:
    places["CD4ML_SINKS"] = f"fluentd://127.0.0.1:{collector.port}"
    port = find_port()
    load = Load(port)
    server = subprocess.Popen([sys.executable, "-c", SKEWED.replace("PORT", str(port))], env=os.environ | places)
    try:
        wait_until(lambda: look(port)[0] == 200, "the server is ready")
        with load.on():
            load.wait_for(1000)
        wait_until(lambda: not set(load.ids) - {one["record"]["id"] for one in collector.read()}, "all are there")
    finally:
        server.kill()
        server.wait()
    told = [one["record"] for one in collector.read()]
    assert len(told) == len({one["id"] for one in told})
    assert not load.faults
    assert {one["at"][:2] for one in told} >= {"19", "20", "21"}


def test_a_new_sink_may_be_told_only_what_comes_from_now_on(places: dict[str, str], collector: Collector) -> None:
    log, to = PredictionLog(Path(places["CD4ML_PREDICTION_LOG"])), f"fluentd://127.0.0.1:{collector.port}"
    log.write(make_rows(11_000))
    words = ("ship", PROBLEM, "--once", "--from-now", "--to", to)
    assert call(places, *words)["sinks"][0]["delivered"] == 0
    log.write(make_rows(7, "q"))
    assert call(places, *words)["sinks"][0]["delivered"] == 7
    assert {one["record"]["id"][0] for one in collector.read()} == {"q"}


@dataclass
class Machines:
    """Several processes of `cd4ml ship`, as they would run on several machines, with one log and one sink."""

    places: dict[str, str]
    address: str
    to: str
    processes: list[subprocess.Popen] = field(default_factory=list)

    def start(self) -> None:
        words = [COMMAND, "ship", PROBLEM, "--to", self.to]
        self.processes.append(subprocess.Popen(words, env=os.environ | self.places, stdout=subprocess.DEVNULL,
                                               stderr=subprocess.PIPE, text=True))
        assert self.processes[-1].stderr.readline().startswith("shipping")

    def find_holder(self) -> subprocess.Popen | None:
        """The one that may ship: whose connection has the lock."""
        import psycopg

        with psycopg.connect(self.address.replace("+psycopg", "")) as connection:
            ports = [row[0] for row in connection.execute(
                "select client_port from pg_stat_activity a join pg_locks l on l.pid = a.pid and l.granted "
                "and l.locktype = 'advisory' and (l.classid::bigint << 32) | l.objid::bigint = %s",
                (self.lease.key,))]
        assert len(ports) < 2
        return next((one for one in self.processes if one.poll() is None for used in psutil.Process(
            one.pid).net_connections() if used.laddr.port in ports), None)

    @property
    def lease(self) -> DatabaseLease:
        return DatabaseLease(self.address, PROBLEM, read_sinks(self.to)[0])


@pytest.fixture
def machines(places: dict[str, str], collector: Collector, address: str) -> Iterator[Machines]:
    places["CD4ML_PREDICTION_LOG"] = address
    found = Machines(places, address, f"fluentd://127.0.0.1:{collector.port}")
    yield found
    for process in found.processes:
        process.kill()
        process.communicate()


def test_of_two_machines_that_share_a_database_one_ships_and_each_event_arrives_once(
        machines: Machines, collector: Collector) -> None:
    log = PredictionLog(machines.address)
    for _ in range(2):
        machines.start()
    for turn in range(12):
        log.write(make_rows(100 + 50 * turn, f"{turn}-"))
        OutcomeLog(machines.address).append(PROBLEM, [Told(f"{turn}-{i}", "", 1, "1") for i in range(50)])
    wanted = sum(100 + 50 * turn for turn in range(12)) + 12 * 50
    wait_until(lambda: machines.lease.read().delivered == wanted, "all are there")
    first = machines.find_holder()
    first.send_signal(signal.SIGTERM)  # as when a machine is taken out of use
    assert first.wait(20) == 0
    wait_until(lambda: machines.find_holder() not in (None, first), "the other one has it")
    log.write(make_rows(10, "last-"))
    wait_until(lambda: machines.lease.read().delivered == wanted + 10, "it ships")
    told = Counter(one["record"]["id"] for one in collector.read())
    assert (len(told), max(told.values())) == (wanted + 10, 1)
    log.close()


def test_when_the_machine_that_ships_is_killed_another_goes_on_where_it_stopped(
        machines: Machines, collector: Collector) -> None:
    log, names = PredictionLog(machines.address), set[str]()
    for _ in range(2):
        machines.start()
    for cut in range(4):
        wait_until(lambda: machines.find_holder() is not None, "somebody ships")
        holder, before = machines.find_holder(), len(collector.read())
        log.write(rows := make_rows(6 * BATCH_EVENTS, f"{cut}-"))
        names |= {row[0] for row in rows}
        wait_until(lambda before=before: len(collector.read()) > before + BATCH_EVENTS // 2, "it has begun")
        holder.kill()
        machines.start()
    wait_until(lambda: {one["record"]["id"] for one in collector.read()} == names, "all are there")
    told = Counter(one["record"]["id"] for one in collector.read())
    assert sum(times - 1 for times in told.values()) <= 4 * BATCH_EVENTS
    end = read_after(machines.address, {}, 10**6)[1]
    wait_until(lambda: machines.lease.read().cursor.predictions == end, "so it stands in the database")
    assert len(names) <= machines.lease.read().delivered <= sum(told.values())
    log.close()


def test_a_database_that_stops_and_starts_loses_no_event_and_no_answer_waits_for_a_sink(
        machines: Machines, collector: Collector, postgres: Any) -> None:
    places = machines.places | {"CD4ML_SINKS": machines.to}
    loads, cuts = [Load(find_port()), Load(find_port())], 0
    with serve(places, loads[0].port) as first, serve(places, loads[1].port), loads[0].on(), loads[1].on():
        for load in loads:
            load.wait_for(300)
        for turn in range(3):
            wait_until(lambda: all(look(load.port)[1]["sinks"][0]["status"] == "well" for load in loads), "both see it")
            postgres.stop()
            wait_until(lambda: [look(load.port)[0] for load in loads] == [503, 503], "both say that they cannot log")
            assert look(loads[0].port)[1]["sinks"] == [{"sink": machines.to, "status": "unknown", "error":
                                                        "The prediction log cannot be used"}]
            if turn == 1:
                collector.stop(signal.SIGKILL)
            postgres.start()
            if turn == 1:
                wait_until(lambda: look(loads[0].port)[1]["sinks"][0]["status"] == "away", "it is told")
                collector.start()
            cuts += 1
            for load in loads:
                load.wait_for(300)
        first.kill()  # whether it was its shipper that had it, or not
        loads[0].stop.set()
        loads[1].wait_for(300)
        loads[1].stop.set()
        names = {*loads[0].ids, *loads[1].ids}
        wait_until(lambda: not names - {one["record"]["id"] for one in collector.read()}, "all are there")
    told = Counter(one["record"]["id"] for one in collector.read())
    assert {row[0] for row in read_after(machines.address, {}, 10**6)[0]} == told.keys()
    assert sum(times - 1 for times in told.values()) <= (cuts + 2) * BATCH_EVENTS
    assert set(loads[0].faults + loads[1].faults) <= {503}


def test_who_was_cut_off_from_the_database_puts_no_cursor_back(machines: Machines) -> None:
    import psycopg

    PredictionLog(machines.address).close()
    first, second = machines.lease, machines.lease
    with hold_sink(first) as is_first, psycopg.connect(machines.address.replace("+psycopg", "")) as connection:
        assert (is_first, second.acquire()) == (True, False)
        first.write(replace(first.read(), delivered=1, at="now"), [Refusal("p\0", "it is \0 of release 2")])
        first.check()
        assert first.use().__enter__().execute("show tcp_keepalives_idle").fetchone() == ("5",)
        connection.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        wait_until(second.acquire, "another takes over")
        second.write(replace(second.read(), delivered=2))
        for use in (first.check, lambda: first.write(replace(first.read(), delivered=1)), first.forget):
            with pytest.raises(LeaseError):
                use()
        assert first.read().delivered == 2
        assert not first.acquire()
        second.release()
        assert first.acquire()
        rows = connection.execute("select at, problem, sink, id, reason from refused").fetchall()
        assert rows == [("now", PROBLEM, machines.to, "p", "it is  of release 2")]


def test_who_may_make_no_tables_logs_as_before_and_hears_at_once_that_he_cannot_ship(
        machines: Machines, address: str, collector: Collector) -> None:
    import psycopg

    PredictionLog(address).close()
    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        connection.execute("revoke create on schema public from public")
        if connection.execute("select 1 from pg_roles where rolname = 'clerk'").fetchone() is None:
            connection.execute("create role clerk login password 'of-the-clerk'")
        connection.execute("grant select, insert, update, delete on all tables in schema public to clerk")
    clerk = re.sub("//.*@", "//clerk:of-the-clerk@", address)
    log = PredictionLog(clerk)
    log.write(make_rows(3))
    log.close()
    told = call(machines.places | {"CD4ML_PREDICTION_LOG": clerk}, "ship", PROBLEM, "--to", machines.to, code=2)
    assert "permission denied" in told["got"]
    assert "of-the-clerk" not in json.dumps(told)
    assert call(machines.places, "ship", PROBLEM, "--once", "--to", machines.to)["sinks"][0]["delivered"] == 3
    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        connection.execute("grant select, insert, update, delete on sinks, refused to clerk")
    PredictionLog(clerk).write(make_rows(2, "q"))
    words = ("ship", PROBLEM, "--once", "--to", machines.to)
    assert call(machines.places | {"CD4ML_PREDICTION_LOG": clerk}, *words)["sinks"][0]["delivered"] == 5
    assert len(collector.read()) == 5


def test_doctor_and_a_prune_know_how_far_the_sinks_of_a_database_are(machines: Machines, collector: Collector) -> None:
    places, later = machines.places | {"CD4ML_SINKS": machines.to}, dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    log, settings = PredictionLog(machines.address), replace(load_settings(), prediction_log=machines.address)

    def ask(sinks: str = machines.to) -> list[str]:
        return [f"{one.finding} → {one.fix}" for one in examine_sinks(replace(settings, sinks=sinks))]

    assert ask() == ask("") == []  # a database of an older version has no tables of sinks, and needs none
    log.write(make_rows(20))
    assert ask() == [f"0 events delivered, 20 wait → cd4ml ship {PROBLEM}"]
    collector.stop()
    call(places, "ship", PROBLEM, "--once", code=2)
    assert "20 wait; away since" in ask()[0]
    assert prune_log(machines.address, 1, later).kept == ("2013-07-01",)
    collector.start()
    assert call(places, "ship", PROBLEM, "--once")["sinks"][0]["delivered"] == 20
    assert ask() == ["20 events delivered, 0 wait → "]

    log.write(make_rows(3, "q"))
    assert prune_log(machines.address, 1, later).kept == ("2013-07-01",)
    told = call(places, "ship", PROBLEM, "--forget", machines.to, code=2)
    assert told["what"] == "A sink that stands in the settings is not forgotten"
    findings = {one["subject"]: one for one in call(machines.places, "doctor", code=2)["findings"]}
    assert findings[f"{PROBLEM} → {machines.to}"]["fix"] == f"cd4ml ship {PROBLEM} --forget {machines.to}"
    machines.start()
    wait_until(lambda: machines.find_holder() is not None, "somebody ships")
    call(machines.places, "ship", PROBLEM, "--forget", machines.to, code=2)
    assert call(machines.places, "ship", PROBLEM, "--once", "--to", machines.to, code=2)["what"].startswith("Another")
    wait_until(lambda: machines.lease.read().delivered == 23, "it ships")
    machines.processes[0].kill()
    wait_until(lambda: machines.find_holder() is None, "the database knows that it is gone")
    assert call(machines.places, "ship", PROBLEM, "--forget", machines.to)["forgotten"][0]["delivered"] == 23
    log.write(make_rows(1, "r"))
    assert ask("") == []
    assert prune_log(machines.address, 1, later).removed == ("2013-07-01",)
    log.close()


def test_no_answer_waits_while_the_states_of_the_sinks_cannot_be_read_or_written(
        machines: Machines, collector: Collector) -> None:
    import psycopg

    places, load = machines.places | {"CD4ML_SINKS": machines.to}, Load(find_port())
    with serve(places, load.port), load.on(), psycopg.connect(machines.address.replace("+psycopg", "")) as connection:
        wait_until(lambda: look(load.port)[1]["sinks"][0]["delivered"] > 0, "it ships")
        connection.execute("lock table sinks in access exclusive mode")
        asked = threading.Thread(target=look, args=(load.port,))
        asked.start()
        waiting = "select count(*) from pg_locks where not granted and relation = 'sinks'::regclass"
        wait_until(lambda: connection.execute(waiting).fetchone() == (2,), "the server and its shipper wait")
        with urllib.request.urlopen(f"http://127.0.0.1:{load.port}/health/live", timeout=5) as reply:
            assert reply.status == 200
        load.wait_for(50)
        assert asked.is_alive()
        connection.rollback()
        load.stop.set()
        wait_until(lambda: not set(load.ids) - {one["record"]["id"] for one in collector.read()}, "all are there")
        asked.join()
    assert not load.faults
