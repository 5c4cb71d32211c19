"""Prometheus and Alertmanager as they are: they take the committed files, and an alarm reaches its receiver."""

import datetime as dt
import http.server
import json
import re
import subprocess
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from waiting import find_port, wait_until

from cd4ml.base.store import Store
from cd4ml.data.snapshot import read_snapshot
from cd4ml.delivery.release import read_release
from cd4ml.production.metrics import Metrics, Monitored, Standing
from cd4ml.production.sinks import SinkState

pytestmark = [pytest.mark.slow, pytest.mark.services]
ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "ci" / "observability"


def run(*words: str | Path) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_files_are_what_the_tools_take(find_tool: Callable[[str], Path]) -> None:
    run(find_tool("promtool"), "check", "config", FILES / "prometheus.yml")
    run(find_tool("amtool"), "check-config", FILES / "alertmanager.yml")
    for severity, receiver in (("page", "pages"), ("ticket", "tickets")):
        run(find_tool("amtool"), "config", "routes", "test", f"--config.file={FILES / 'alertmanager.yml'}",
            f"--verify.receivers={receiver}", f"severity={severity}")


def test_each_alert_fires_when_it_should_and_only_then(find_tool: Callable[[str], Path]) -> None:
    run(find_tool("promtool"), "test", "rules", FILES / "rules_test.yml")
    alerts = set(re.findall(r"- alert: (\w+)", (FILES / "rules.yml").read_text()))
    tested = (FILES / "rules_test.yml").read_text()
    assert alerts == set(re.findall(r"alertname: (\w+)\n", tested))  # is expected to fire
    assert alerts == set(re.findall(r"\{alertname: (\w+), eval_time: 1h\}", tested))  # is silent if all is well


def test_every_metric_in_the_rules_is_one_that_a_server_tells(find_tool: Callable[[str], Path]) -> None:
    monitored = Monitored(dt.datetime(2026, 1, 2, tzinfo=dt.UTC), {"hour": 0.1}, {"drift": 1})
    sinks = [SinkState("toy", "azure://").to_dict()]
    metrics = Metrics("toy", lambda: Standing("toy", {"champion": 1}, 0, 1, sinks=sinks, monitored=monitored))
    metrics.count_answers("toy", 1, 1, 0.1)
    told = set(re.findall(r"^(cd4ml_\w+)[{ ]", metrics.write().decode(), re.M))
    rules = (FILES / "rules.yml").read_text()
    used = set(re.findall(r"(?<![:\w-])cd4ml_\w+", rules))
    assert used
    assert used <= told
    done = subprocess.run([find_tool("promtool"), "check", "metrics"], input=metrics.write(), capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def receive() -> Iterator[tuple[str, list[tuple[str, dict]]]]:
    """Yield the address of a receiver of webhooks, and what it got."""
    got: list[tuple[str, dict]] = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", got
    server.shutdown()
    server.server_close()


@contextmanager
def start(*words: str | Path) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def get(address: str, **headers: str) -> str:
    with urllib.request.urlopen(urllib.request.Request(f"http://{address}", headers=headers), timeout=10) as reply:
        return reply.read().decode()


def wait_for(address: str, process: subprocess.Popen) -> None:
    wait_until(lambda: process.poll() is not None or can_get(address), address)
    assert process.poll() is None, process.args


def can_get(address: str) -> bool:
    try:
        get(address)
    except OSError:
        return False
    return True


def write_files(folder: Path, ports: dict[str, int], receiver: str) -> None:
    """Write the committed files with other ports and shorter times; nothing else is changed."""
    times = {r"(scrape|evaluation)_interval: 15s": r"\1_interval: 1s", r"group_wait: \d+s": "group_wait: 0s",
             r"group_interval: 5m": "group_interval: 1s", r"for: \S+m\b": "for: 2s"}
    changes = {"127.0.0.1:8000": f"127.0.0.1:{ports['server']}", "127.0.0.1:9093": f"127.0.0.1:{ports['alerts']}",
               "127.0.0.1:9095": receiver, "# authorization:": "authorization:",
               "#   credentials_file": "  credentials_file"}
    for name in ("prometheus.yml", "rules.yml", "alertmanager.yml"):
        text = (FILES / name).read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        for old, new in times.items():
            text = re.sub(old, new, text)
        (folder / name).write_text(text)
    (folder / "cd4ml.key").write_text("of-prometheus")


def read_expressions() -> list[str]:
    """Return the expressions of the dashboard, with what Grafana puts in."""
    panels = json.loads((FILES / "grafana.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [one.replace("$problem", "iris").replace("$__rate_interval", "1m") for one in found]


@dataclass
class Watched:
    """A server, and where Prometheus that watches over it listens."""

    process: subprocess.Popen
    restart_prometheus: Callable[[], None]
    server: str
    prometheus: str

    def send(self, rows: list[dict]) -> None:
        request = urllib.request.Request(f"http://{self.server}/predict", json.dumps({"rows": rows}).encode(),
                                         {"Content-Type": "application/json", "X-API-Key": "of-prometheus"})
        urllib.request.urlopen(request, timeout=20).close()

    def ask(self, expression: str) -> list[float]:
        query = urllib.parse.urlencode({"query": expression})
        told = json.loads(get(f"{self.prometheus}/api/v1/query?{query}"))["data"]["result"]
        return [float(one["value"][1]) for one in told]

    def wait_for(self, expression: str) -> None:
        wait_until(lambda: bool(self.ask(expression)), expression)


@contextmanager
def watch(folder: Path, workbench, find_tool: Callable[[str], Path], receiver: str) -> Iterator[Watched]:
    ports = {name: find_port() for name in ("server", "prometheus", "alerts")}
    places = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    write_files(folder, ports, receiver)
    server = workbench.start("serve", "iris", "--port", str(ports["server"]))
    try:
        wait_for(f"{places['server']}/health/ready", server)
        running: list[subprocess.Popen] = []

        def start_prometheus() -> None:
            for process in running:
                process.kill()
                process.wait()
            words = [find_tool("prometheus"), f"--config.file={folder}/prometheus.yml",
                     f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={places['prometheus']}"]
            running[:] = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)]
            wait_for(f"{places['prometheus']}/-/ready", running[0])

        with start(find_tool("alertmanager"), f"--config.file={folder}/alertmanager.yml", "--cluster.listen-address=",
                   f"--storage.path={folder}/alerts", f"--web.listen-address={places['alerts']}") as alerts:
            wait_for(f"{places['alerts']}/-/ready", alerts)
            start_prometheus()
            try:
                yield Watched(server, start_prometheus, places["server"], places["prometheus"])
            finally:
                running[0].kill()
                running[0].wait()
    finally:
        server.kill()
        server.communicate()


def test_drift_in_production_reaches_whoever_is_to_be_told(
        shared_workbench, find_tool: Callable[[str], Path], tmp_path: Path) -> None:
    workbench = shared_workbench
    workbench.environ["CD4ML_API_KEYS"] = "of-prometheus"
    workbench.call_json("release", "iris")
    release = read_release(Store(str(workbench.folder / "releases")), "iris", 1)
    names = [name for name, _ in release.features]
    rows = read_snapshot(release.data["holdout"], Store(str(workbench.folder / ".cd4ml/data")))
    rows = json.loads(rows[names].to_json(orient="records"))
    with receive() as (receiver, got), watch(tmp_path, workbench, find_tool, receiver) as watched:
        watched.send(rows)
        assert workbench.call_json("monitor", "iris")["monitoring"]["alarms"] == []
        watched.wait_for('cd4ml_alarms{problem="iris",kind="drift"} == 0')
        watched.wait_for('cd4ml_predictions_total{release="1",role="champion"} > 0')
        assert not [path for path, told in got if told["status"] == "firing"]

        watched.restart_prometheus()
        for _ in range(40):
            watched.send([row | {names[0]: row[names[0]] + 3} for row in rows])
        alarms = workbench.call_json("monitor", "iris")["monitoring"]["alarms"]
        assert names[0] in [one["name"] for one in alarms]
        words = f"raised {sum(one['kind'] == 'drift' for one in alarms)} alarms of the kind drift"
        wait_until(lambda: any(words in json.dumps(told) for _, told in got), words)  # kinds come one by one
        path, told = next(one for one in got if words in json.dumps(one))
        assert (path, told["status"]) == ("/ticket", "firing")
        assert told["groupLabels"] == {"alertname": "Cd4mlDrift", "problem": "iris"}
        assert watched.ask(f'cd4ml_drift_psi{{feature="{names[0]}"}} > 0.2')

        for expression in read_expressions():  # Prometheus refuses what it cannot read
            watched.ask(expression)
        for expression in (one for one in read_expressions() if "sink" not in one):
            watched.wait_for(expression)

        watched.process.kill()
        wait_until(lambda: any(path == "/page" for path, _ in got), "somebody is woken")
        assert next(told for path, told in got if path == "/page")["groupLabels"] == {"alertname": "Cd4mlDown"}
