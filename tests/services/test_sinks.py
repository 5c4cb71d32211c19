"""Each sink beside the most faithful other side that runs here: moto's CloudWatch, the protocols' own decoders, and a
server that holds bulk requests to what Elasticsearch documents of them."""

import contextlib
import datetime as dt
import fnmatch
import gzip
import http.server
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cd4ml.base.errors import Cd4mlError
from cd4ml.base.settings import Settings, load_settings
from cd4ml.production.cloudwatch import CloudwatchSink
from cd4ml.production.events import Event
from cd4ml.production.leases import FileLease
from cd4ml.production.outcomes import OutcomeLog, Told
from cd4ml.production.predictions import PredictionLog, to_milliseconds
from cd4ml.production.shipping import BATCH_EVENTS, ship_events
from cd4ml.production.sinks import SinkAddress, SinkError, SinkState, read_sinks

pytestmark = [pytest.mark.slow, pytest.mark.services]
ROOT = Path(__file__).resolve().parents[2]
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Other:
    """The other side: `answer` is given path, headers and body of each request; all that came is kept."""

    answer: Callable[[str, dict[str, str], bytes], Answer]
    port: int = 0
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @contextlib.contextmanager
    def on(self) -> Iterator["Other"]:
        other = self

        class Server(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body
                other.got.append((self.path, headers, body))
                status, more, told = other.answer(self.path, headers, body)
                self.send_response(status)
                for name, value in {**more, "Content-Length": str(len(told))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Server)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a log of two batches and a bit, and an outcome."""
    log, count = PredictionLog(tmp_path / "predictions"), 2 * BATCH_EVENTS + 100
    at = to_milliseconds(NOW - dt.timedelta(minutes=5))
    log.write([(f"p{i}", f"r{i // 2}", at + i, "flights", 3, f'{{"hour": {i % 24}, "carrier": "UA"}}',
                '{"prediction": true, "probability": 0.75}', "", "champion", 0.001 * (1 + i % 7))
               for i in range(count)])
    OutcomeLog(log.path).append("flights", [Told("p1", "", to_milliseconds(NOW), "false")])
    return replace(load_settings(), prediction_log=str(log.path))


IDS = {f"p{i}" for i in range(2 * BATCH_EVENTS + 100)} | {"p1-outcome-1"}


def ship(settings: Settings, address: str) -> SinkState:
    return ship_events(settings, "flights", read_sinks(address), lambda: dt.datetime.now(dt.UTC))[0]


def read_refused(settings: Settings, address: str) -> list[dict]:
    path = make_lease(settings, address).path.with_suffix(".refused.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_lease(settings: Settings, address: str) -> FileLease:
    return FileLease(settings.prediction_log, "flights", read_sinks(address)[0])


TEMPLATE = json.loads((ROOT / "ci/observability/elasticsearch/template.json").read_text())
FITS: dict[str, Callable[[Any], object]] = {
    "date": dt.datetime.fromisoformat, "keyword": lambda value: isinstance(value, str | bool | int | float),
    "integer": lambda value: type(value) is int and abs(value) < 2**31, "object": lambda value: isinstance(value, dict),
    "double": lambda value: type(value) in (int, float)}


@dataclass
class Index:
    """Answer bulk requests as Elasticsearch documents it, strictly: what does not fit the protocol or the template is a
    400, as if a cluster knew no other."""

    documents: dict[tuple[str, str], dict] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)  # what an id is answered at first
    limit: int = 10**9  # bytes of a request
    key: str = ""

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if self.key and headers.get("authorization") != f"ApiKey {self.key}":
            return 401, {}, b"{}"
        if len(body) > self.limit:
            return 413, {}, b""
        try:
            assert path.partition("?")[0] == "/_bulk"
            assert headers["content-type"] == "application/x-ndjson"
            assert body.endswith(b"\n"), "the last line must end"
            lines = body[:-1].split(b"\n")
            assert len(lines) % 2 == 0
            items = [self.create(json.loads(lines[i]), json.loads(lines[i + 1])) for i in range(0, len(lines), 2)]
        except (AssertionError, ValueError, KeyError) as error:
            return 400, {}, json.dumps({"error": str(error)}).encode()
        told = {"errors": any(one["status"] > 299 for one in items), "items": [{"create": one} for one in items]}
        return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()

    def create(self, action: dict, document: dict) -> dict:
        (kind, about), = action.items()
        index, name = about["_index"], about["_id"]
        assert kind == "create"
        assert set(about) == {"_index", "_id"}
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,254}", index)
        assert 0 < len(name.encode()) <= 512
        assert fnmatch.fnmatch(index, TEMPLATE["index_patterns"][0])
        for field_, value in document.items():
            kind = TEMPLATE["template"]["mappings"]["properties"][field_]["type"]
            assert FITS[kind](value), f"{field_} is no {kind}"
        if self.statuses.get(name):
            status = self.statuses[name].pop(0)
            error = {"type": "document_parsing_exception" if status == 400 else "es_rejected", "reason": "told to"}
            return {"_index": index, "_id": name, "status": status, "error": error}
        if (index, name) in self.documents:
            return {"_index": index, "_id": name, "status": 409,
                    "error": {"type": "version_conflict_engine_exception", "reason": "exists"}}
        self.documents[index, name] = document
        return {"_index": index, "_id": name, "status": 201}


def test_elasticsearch_gets_each_event_once_and_says_what_it_will_not_take(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index(statuses={"p7": [400] * 9, "p9": [429, 503], "p501": [503]}, key="of-the-cluster", limit=60_000)
    with Other(index.answer).on() as other:
        address = f"elasticsearch+http://127.0.0.1:{other.port}"
        with pytest.raises(SinkError, match="HTTP 401"):
            ship(settings, address)
        monkeypatch.setenv("CD4ML_ELASTICSEARCH_KEY", "of-the-cluster")
        for _ in range(3):  # the cluster is busy, thrice
            with pytest.raises(SinkError, match="es_rejected"):
                ship(settings, address)
        state = ship(settings, address)
    assert {name for _, name in index.documents} == IDS - {"p7"}
    assert len(index.documents) == len(IDS) - 1  # in one index each
    assert {name for name, _ in index.documents} <= {f"cd4ml-flights-{NOW - dt.timedelta(minutes=5):%Y.%m.%d}",
                                                     f"cd4ml-flights-{NOW:%Y.%m.%d}"}
    assert (state.delivered, state.refused, state.behind) == (len(IDS) - 1, 1, 0)
    assert [one["id"] for one in read_refused(settings, address)] == ["p7"]
    assert "400 document_parsing_exception" in read_refused(settings, address)[0]["reason"]


def test_elasticsearch_is_told_everything_again_without_a_doubled_event(settings: Settings) -> None:
    index = Index()
    with Other(index.answer).on() as other:
        address = f"elasticsearch+http://127.0.0.1:{other.port}"
        ship(settings, address)
        make_lease(settings, address).path.unlink()
        assert ship(settings, address).delivered == len(IDS)
    assert len(index.documents) == len(IDS)


def test_cloudwatch_counts_rows_requests_and_outcomes_in_their_units(
        settings: Settings, cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    for name, value in {"AWS_ENDPOINT_URL_CLOUDWATCH": cloud, "AWS_ACCESS_KEY_ID": "test",
                        "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "test"}.items():
        monkeypatch.setenv(name, value)
    state = ship(settings, "cloudwatch://eu-central-1/shop/models")
    assert (state.delivered, state.refused) == (len(IDS), 0)
    client = boto3.client("cloudwatch", region_name="eu-central-1")
    units = set(client.meta.service_model.shape_for("StandardUnit").enum)
    about = [{"Name": "Problem", "Value": "flights"}, {"Name": "Release", "Value": "3"},
             {"Name": "Role", "Value": "champion"}]
    expected = {"Predictions": ("Count", about, len(IDS) - 1, len(IDS) - 1), "Outcomes": ("Count", about[:1], 1, 1),
                "RequestTime": ("Seconds", about, (len(IDS) - 1) // 2, None)}
    for name, (unit, dimensions, count, total) in expected.items():
        assert unit in units
        found = client.get_metric_statistics(
            Namespace="shop/models", MetricName=name, Dimensions=dimensions, Period=3600, Unit=unit,
            StartTime=NOW - dt.timedelta(hours=1), EndTime=NOW + dt.timedelta(hours=1),
            Statistics=["SampleCount", "Sum", "Maximum"])["Datapoints"]
        assert sum(one["SampleCount"] for one in found) == count
        assert {one["Unit"] for one in found} == {unit}
        if total:
            assert sum(one["Sum"] for one in found) == total
        else:  # seconds, not milliseconds
            assert max(one["Maximum"] for one in found) == pytest.approx(0.007)


def test_cloudwatch_that_is_away_or_forbids_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    told = {"release": 1, "role": "champion", "request_id": "r", "seconds": 0.1}
    event = Event("p", "prediction", NOW, "toy", told)
    forbidden = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    with Other(lambda *_: (403, {}, forbidden)).on() as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", f"http://127.0.0.1:{other.port}")
        with pytest.raises(SinkError):
            CloudwatchSink(SinkAddress("cloudwatch://r/n", "cloudwatch", "eu-central-1", 0, "n")).send([event])
    with pytest.raises(SinkError):
        CloudwatchSink(SinkAddress("cloudwatch://r/n", "cloudwatch", "eu-central-1", 0, "n")).send([event])


def read_records(other: Other) -> list[tuple[str, Any]]:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    found = []
    for _, _, body in other.got:
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            service = {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"]
            found += [(service, record) for scope in resource.scope_logs for record in scope.log_records]
    return found


def test_a_collector_of_opentelemetry_gets_whole_records(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=of-the-collector")
    answers = [(400, {}, b""), (200, {}, b"")]
    partial = ExportLogsServiceResponse()
    partial.partial_success.rejected_log_records, partial.partial_success.error_message = 2, "too deep"
    with Other(lambda *_: answers.pop(0) if answers else (200, {}, partial.SerializeToString())).on() as other:
        address = f"otlp+http://127.0.0.1:{other.port}"
        state = ship(settings, address)
    assert {path for path, _, _ in other.got} == {"/v1/logs"}
    assert {headers["api-key"] for _, headers, _ in other.got} == {"of-the-collector"}
    records = read_records(other)
    names = [{one.key: one.value for one in record.attributes}["cd4ml.id"].string_value for _, record in records]
    assert set(names) == IDS
    assert {service for service, _ in records} == {"cd4ml-flights"}
    _, first = records[names.index("p5")]
    body = {one.key: one.value for one in first.body.kvlist_value.values}
    assert ("hour", 5) in [(one.key, one.value.int_value) for one in body["features"].kvlist_value.values]
    assert first.time_unix_nano == (to_milliseconds(NOW - dt.timedelta(minutes=5)) + 5) * 1_000_000
    assert first.event_name == "cd4ml.prediction"
    assert state.refused == 2 * (len(other.got) - 2)  # each answer after the first two rejected two
    assert "too deep" in read_refused(settings, address)[0]["reason"]


def test_one_record_that_a_collector_calls_malformed_holds_up_no_other(settings: Settings) -> None:
    def answer(path: str, headers: dict[str, str], body: bytes) -> Answer:
        return (400 if b"p123" in body else 200), {}, b""

    with Other(answer).on() as other:
        address = f"otlp+http://127.0.0.1:{other.port}"
        state = ship(settings, address)
    assert (state.delivered, state.refused) == (len(IDS) - 1, 1)
    assert read_refused(settings, address) == [{"id": "p123", "reason": "HTTP 400"}]


def test_azure_monitor_is_counted_by_what_it_acknowledges(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, busy = set[str](), [True]

    def answer(path: str, headers: dict[str, str], body: bytes) -> Answer:
        if busy and busy.pop():
            return 503, {}, b"{}"
        items, errors = json.loads(body), []
        for number, one in enumerate(items):
            event = json.loads(one["data"]["baseData"]["message"])
            assert one["iKey"] == "00000000-0000-0000-0000-000000000001"
            assert one["time"].startswith(event["at"][:19])
            assert one["data"]["baseData"]["properties"]["cd4ml.id"] == event["id"]
            if event["id"] == "p8":
                errors.append({"index": number, "statusCode": 400, "message": "no"})
            else:
                kept.add(event["id"])
        told = {"itemsReceived": len(items), "itemsAccepted": len(items) - len(errors), "errors": errors}
        return (206 if errors else 200), {"Content-Type": "application/json"}, json.dumps(told).encode()

    with Other(answer).on() as other:
        monkeypatch.setenv("APPLICATIONINSIGHTS_CONNECTION_STRING", "InstrumentationKey=00000000-0000-0000-0000-"
                           f"000000000001;IngestionEndpoint=http://127.0.0.1:{other.port}/")
        with pytest.raises(SinkError, match="HTTP 503"):
            ship(settings, "azure://")
        state = ship(settings, "azure://")
    assert kept == IDS - {"p8"}
    assert (state.delivered, state.refused) == (len(IDS) - 1, 1)
    assert {path.partition("?")[0] for path, _, _ in other.got} == {"/v2.1/track"}
    make_lease(settings, "azure://").path.unlink()
    with pytest.raises(SinkError, match="no answer"):
        ship(settings, "azure://")


def test_one_sink_that_is_away_keeps_nothing_from_another(settings: Settings) -> None:
    index = Index()
    with Other(index.answer).on() as other:
        addresses = read_sinks(f"fluentd://127.0.0.1:1, elasticsearch+http://127.0.0.1:{other.port}, azure://")
        os.environ["APPLICATIONINSIGHTS_CONNECTION_STRING"] = (
            "InstrumentationKey=00000000-0000-0000-0000-000000000001;IngestionEndpoint=http://127.0.0.1:1/")
        try:
            with pytest.raises(Cd4mlError):
                ship_events(settings, "flights", addresses, lambda: NOW)
        finally:
            del os.environ["APPLICATIONINSIGHTS_CONNECTION_STRING"]
    assert len(index.documents) == len(IDS)
