"""`cd4ml stream` beside real brokers: consumers killed mid-way, brokers that go away, messages that are none."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from waiting import find_port, is_listening, wait_until

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model, predict_rows
from cd4ml.production.predictions import read_after

pytestmark = [pytest.mark.slow, pytest.mark.services]
ROOT = Path(__file__).resolve().parents[2]
X = pd.DataFrame(np.random.default_rng(3).normal(size=(400, 2)), columns=["temp", "wind"])
MODEL = LogisticRegression().fit(X, X["temp"] > 0)


@dataclass
class Broker:
    """A real server with its data in a folder, and the plainest client there is."""

    folder: Path
    command: list[str]
    port: int = field(default_factory=find_port)
    process: subprocess.Popen | None = None
    scheme = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [word.format(port=self.port, folder=self.folder) for word in self.command]
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: is_listening(self.port), f"{words[0]} listens")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Redis(Broker):
    scheme = "redis"

    def client(self):
        import redis

        return redis.Redis(port=self.port)

    def send(self, messages: list[bytes], ids: list[str | None]) -> None:
        for message, own in zip(messages, ids, strict=True):
            self.client().xadd("flights.questions", {"data": message} | ({"message-id": own} if own else {}))

    def read(self, name: str) -> list[dict]:
        return [json.loads(entry[b"__data__"]) for _, entry in self.client().xrange(f"flights.{name}")]


class Nats(Broker):
    scheme = "nats"

    def call(self, work: Callable):
        import nats

        async def run():
            client = await nats.connect(self.url)
            try:
                return await work(client.jetstream())
            finally:
                await client.close()

        return asyncio.run(run())

    def send(self, messages: list[bytes], ids: list[str | None]) -> None:
        async def work(stream):
            for message, own in zip(messages, ids, strict=True):
                await stream.publish("flights.questions", message, headers={"message-id": own} if own else None)

        self.call(work)

    def read(self, name: str) -> list[dict]:
        async def work(stream):
            count = (await stream.stream_info("flights-questions")).state.messages
            every = [await stream.get_msg("flights-questions", seq) for seq in range(1, count + 1)]
            return [json.loads(one.data) for one in every if one.subject == f"flights.{name}"]

        return self.call(work)


KAFKA = """
import sys, time
from pathlib import Path
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1})
address = next(iter(producer.list_topics(timeout=20).brokers.values()))
for name in sys.argv[2:]:
    producer.list_topics(name, timeout=20)  # which makes it
(Path(sys.argv[1]) / "port.part").write_text(str(address.port))
(Path(sys.argv[1]) / "port.part").rename(Path(sys.argv[1]) / "port")
while True:
    producer.poll(1)
"""


class Kafka(Broker):
    """A broker of librdkafka's own that speaks Kafka's protocol to other processes."""

    scheme = "kafka"

    def start(self) -> None:
        words = [word.format(folder=self.folder) if word == "{folder}" else word for word in self.command]
        self.process = subprocess.Popen(words)
        wait_until((self.folder / "port").exists, "the Kafka broker listens")
        self.port = int((self.folder / "port").read_text())

    def send(self, messages: list[bytes], ids: list[str | None]) -> None:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": f"127.0.0.1:{self.port}"})
        for message, own in zip(messages, ids, strict=True):
            producer.produce("flights.questions", message, headers={"message-id": own} if own else None)
        assert producer.flush(20) == 0

    def read(self, name: str) -> list[dict]:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        topic, found = f"flights.{name}", []
        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": "test",
                             "enable.auto.commit": False, "enable.partition.eof": False})
        places = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        ends = {place: consumer.get_watermark_offsets(TopicPartition(topic, place), timeout=20) for place in places}
        consumer.assign([TopicPartition(topic, place, OFFSET_BEGINNING) for place in places])
        while len(found) < sum(high - low for low, high in ends.values()):
            if (message := consumer.poll(1)) is not None and message.error() is None:
                found.append(json.loads(message.value()))
        consumer.close()
        return found


@pytest.fixture(params=["redis", "nats", "kafka"])
def broker(request: pytest.FixtureRequest, tmp_path: Path, find_tool: Callable) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    if request.param == "redis":
        options = "--port {port} --dir {folder} --appendonly yes --bind 127.0.0.1"
        started = Redis(folder, [str(find_tool("redis-server")), *options.split()])
    elif request.param == "nats":
        options = "-a 127.0.0.1 -p {port} -js -sd {folder}"
        started = Nats(folder, [str(find_tool("nats-server")), *options.split()])
    else:
        topics = [f"flights.{name}" for name in ("questions", "answers", "dead")]
        started = Kafka(folder, [sys.executable, "-c", KAFKA, "{folder}", *topics])
    started.start()
    yield started
    started.stop()


def write_release(folder: Path, version: int) -> None:
    store, data = Store(str(folder / "releases")), dump_model(MODEL)
    features = tuple((name, "float64") for name in X)
    release = Release("flights", version, "2026-01-02T03:04:05+00:00", "binary", "late", features, (False, True), {},
                      {}, None, {"model/model.skops": hash_bytes(data)})
    store.write(f"{release.folder}/model/model.skops", data)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    add_event(store, "flights", lambda number, old: Event(number, "promote", version, old, "", "ada", "", "ci"))


@contextmanager
def start_consumer(folder: Path, broker: Broker) -> Iterator[subprocess.Popen]:
    environ = os.environ | {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": str(folder / "releases"),
                            "CD4ML_PREDICTION_LOG": str(folder / "predictions"), "CD4ML_ENV": "local"}
    program = str(Path(sys.executable).parent / "cd4ml")
    command = [program, "stream", "flights", "--broker", broker.url, "--redeliver", "2"]
    with open(folder / "consumer.log", "a") as log:
        process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_log(folder: Path) -> list[tuple]:
    return [(row[0], row[1], row[6]) for row in read_after(folder / "predictions", {}, 1_000_000)[0]]


def make_questions(first: int, count: int) -> list[bytes]:
    """Return questions of two rows; every tenth is one that nobody can answer."""
    rows = X.to_dict("records")
    good = [json.dumps({"rows": [rows[i], rows[-1 - i]]}).encode() for i in range(first, first + count)]
    bad = [json.dumps({"temp": "mild", "number": i}).encode() for i in range(first, first + count)]
    return [wrong if i % 10 == 9 else right for i, (right, wrong) in enumerate(zip(good, bad, strict=True), first)]


def test_a_consumer_is_killed_and_nothing_is_lost_or_logged_twice(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    with start_consumer(tmp_path, broker) as first:
        wait_until(lambda: "answering" in (tmp_path / "consumer.log").read_text(), "the consumer begins")
        broker.send(make_questions(0, 150), [None] * 150)
        wait_until(lambda: len(read_log(tmp_path)) >= 40, "40 predictions")
        first.send_signal(signal.SIGKILL)
    before = len(read_log(tmp_path))
    assert before < 270
    with start_consumer(tmp_path, broker), start_consumer(tmp_path, broker):
        broker.send(make_questions(0, 20), [None] * 20)  # a producer that is not sure sends again
        wait_until(lambda: len({one["request_id"] for one in broker.read("answers")}) == 135, "all answers")
        wait_until(lambda: len({one["message_id"] for one in broker.read("dead")}) == 15, "all dead letters")
    logged = read_log(tmp_path)
    assert len(logged) == len({one[0] for one in logged}) == 270
    answers = broker.read("answers")
    told = {(one["prediction_id"], one["probability"]) for answer in answers for one in answer["predictions"]}
    assert told == {(one[0], json.loads(one[2])["probability"]) for one in logged}  # and the same each time
    expected = predict_rows(MODEL, X, "binary")["probability"]
    asked = [i for i in range(150) if i % 10 != 9]
    assert sorted(round(one[1], 12) for one in told) == sorted(
        round(expected.iloc[place], 12) for i in asked for place in (i, -1 - i))
    letter = next(one for one in broker.read("dead") if '"number": 9}' in one["body"])
    assert {one["field"] for one in letter["violations"]} == {"temp", "wind", "number"}
    assert "Traceback" not in (tmp_path / "consumer.log").read_text()


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)  # librdkafka's own keeps nothing on disk
def test_a_broker_that_goes_away_is_waited_for(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    with start_consumer(tmp_path, broker):
        wait_until(lambda: "answering" in (tmp_path / "consumer.log").read_text(), "the consumer begins")
        broker.send(make_questions(0, 5), [None] * 5)
        wait_until(lambda: len(read_log(tmp_path)) == 10, "what came before")
        broker.stop()
        time.sleep(3)
        broker.start()
        broker.send(make_questions(20, 5), [None] * 5)
        wait_until(lambda: len(read_log(tmp_path)) == 20, "what came after")
    assert len({one["request_id"] for one in broker.read("answers")}) == 10


def test_messages_wait_for_a_champion(tmp_path: Path, broker: Broker) -> None:
    with start_consumer(tmp_path, broker):
        wait_until(lambda: (tmp_path / "consumer.log").exists() and "answering" in (
            tmp_path / "consumer.log").read_text(), "the consumer begins")
        broker.send(make_questions(0, 3), [None] * 3)
        time.sleep(2)
        write_release(tmp_path, 1)
        wait_until(lambda: len(read_log(tmp_path)) == 6, "answers from the champion")
    assert not broker.read("dead")


def test_an_id_of_the_producer_tells_equal_messages_apart(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    with start_consumer(tmp_path, broker):
        wait_until(lambda: "answering" in (tmp_path / "consumer.log").read_text(), "the consumer begins")
        broker.send(make_questions(0, 1) * 4, ["a", "b", "a", None])
        wait_until(lambda: len(broker.read("answers")) >= 3, "answers")
    assert len(read_log(tmp_path)) == 6


def test_a_broker_that_is_down_is_named_without_its_password(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).parent / "cd4ml"), "stream", "flights", "--broker"]
    environ = os.environ | {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": str(tmp_path / "releases"),
                            "CD4ML_PREDICTION_LOG": str(tmp_path / "predictions")}
    for scheme in ("redis", "nats", "kafka"):
        port, user = find_port(), "" if scheme == "kafka" else "ada:secret@"
        done = subprocess.run([*command, f"{scheme}://{user}127.0.0.1:{port}"], env=environ, text=True,
                              capture_output=True, check=False)
        assert done.returncode == 2
        assert f"The broker cannot be reached ({scheme}://127.0.0.1:{port})" in done.stderr
        assert "secret" not in done.stderr
        assert "Traceback" not in done.stderr
