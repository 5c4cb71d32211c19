"""`cd4ml stream` beside real brokers: consumers killed mid-way, brokers that go away, messages that are none."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
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

    def send_nonsense(self) -> int:
        entries = [{b"\xff\xfe": b"q"}, {b"\xff": b"1", b"other": b"\xfe"}, {"__data__": b"\xff"},
                   {"__data__": b'{"data": "{}", "headers": 5}'},
                   {"data": b"\xff", "message-id": b"\xfe"}, {"data": rb'{"\ud800": 1}'}]
        for entry in entries:
            self.client().xadd("flights.questions", entry)
        return len(entries)

    def count_waiting(self) -> int:
        (group,) = self.client().xinfo_groups("flights.questions")
        untaken = self.client().xrange("flights.questions", f"({group['last-delivered-id'].decode()}", "+")
        return group["pending"] + len(untaken)

    def forget(self) -> None:
        self.client().flushall()

    def list_marks(self, name: str) -> set[str]:
        return set()

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

    def send_nonsense(self) -> int:
        self.send([b"\xff", b"", rb'{"\ud800": 1}'], [None, None, None])
        raw = b"NATS/1.0\r\nmessage-id: \xfe\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b'CONNECT {"verbose": false, "headers": true}\r\n')
            client.sendall(b"HPUB flights.questions %d %d\r\n%s{}\r\nPING\r\n" % (len(raw), len(raw) + 2, raw))
            with client.makefile("rb") as lines:
                assert next(line for line in lines if not line.startswith(b"INFO")) == b"PONG\r\n"
        return 4

    def count_waiting(self) -> int:
        async def work(stream):
            found = await stream.consumer_info("flights-questions", "cd4ml")
            return found.num_pending + found.num_ack_pending

        return self.call(work)

    def forget(self) -> None:
        self.call(lambda stream: stream.delete_stream("flights-questions"))

    def fetch(self, name: str) -> list:
        async def work(stream):
            count = (await stream.stream_info("flights-questions")).state.messages
            every = [await stream.get_msg("flights-questions", seq) for seq in range(1, count + 1)]
            return [one for one in every if one.subject == f"flights.{name}"]

        return self.call(work)

    def list_marks(self, name: str) -> set[str]:
        return {one.headers["correlation_id"] for one in self.fetch(name)}

    def read(self, name: str) -> list[dict]:
        return [json.loads(one.data) for one in self.fetch(name)]


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

    def send_nonsense(self) -> int:
        from confluent_kafka import Producer

        producer = Producer({"bootstrap.servers": f"127.0.0.1:{self.port}"})
        for message, headers in ((b"\xff", None), (None, None), (b"{}", {"message-id": b"\xfe", "none": None}),
                                 (rb'{"\ud800": 1}', None)):
            producer.produce("flights.questions", message, headers=headers)
        assert producer.flush(20) == 0
        return 4

    def count_waiting(self) -> int:
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": "cd4ml"})
        topic = "flights.questions"
        known = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        places = [TopicPartition(topic, one) for one in known]
        ends = {one.partition: consumer.get_watermark_offsets(one, timeout=20)[1] for one in places}
        done = {one.partition: max(one.offset, 0) for one in consumer.committed(places, timeout=20)}
        consumer.close()
        return sum(end - done[place] for place, end in ends.items())

    def list_marks(self, name: str) -> set[str]:
        return {dict(one.headers())["correlation_id"].decode() for one in self.fetch(name)}

    def read(self, name: str) -> list[dict]:
        return [json.loads(one.value()) for one in self.fetch(name)]

    def fetch(self, name: str) -> list:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        topic, found = f"flights.{name}", []
        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.port}", "group.id": "test",
                             "enable.auto.commit": False, "enable.partition.eof": False})
        places = consumer.list_topics(topic, timeout=20).topics[topic].partitions
        ends = {place: consumer.get_watermark_offsets(TopicPartition(topic, place), timeout=20) for place in places}
        consumer.assign([TopicPartition(topic, place, OFFSET_BEGINNING) for place in places])
        while len(found) < sum(high - low for low, high in ends.values()):
            if (message := consumer.poll(1)) is not None and message.error() is None:
                found.append(message)
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


def kill_midway(consumer: subprocess.Popen, broker: Broker, folder: Path) -> int:
    """Kill the consumer while questions are left to it, however fast it is; return how many were sent."""
    sent = 0
    while True:
        consumer.send_signal(signal.SIGSTOP)
        if sent and broker.count_waiting():
            consumer.send_signal(signal.SIGKILL)
            consumer.wait()
            return sent
        wanted = len(read_log(folder)) + 40
        broker.send(make_questions(sent, 100), [None] * 100)
        sent += 100
        consumer.send_signal(signal.SIGCONT)
        wait_until(lambda wanted=wanted: len(read_log(folder)) >= wanted, "40 predictions")


def test_a_consumer_is_killed_and_nothing_is_lost_or_logged_twice(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    with start_consumer(tmp_path, broker) as first:
        wait_until(lambda: "answering" in (tmp_path / "consumer.log").read_text(), "the consumer begins")
        sent = kill_midway(first, broker, tmp_path)
    good = [i for i in range(sent) if i % 10 != 9]
    with start_consumer(tmp_path, broker), start_consumer(tmp_path, broker):
        broker.send(make_questions(0, 20), [None] * 20)  # a producer that is not sure sends again
        wait_until(lambda: len({one["request_id"] for one in broker.read("answers")}) == len(good), "all answers")
        wait_until(lambda: len({one["request_id"] for one in broker.read("dead")}) == sent // 10, "all dead letters")
    logged = read_log(tmp_path)
    assert len(logged) == len({one[0] for one in logged}) == 2 * len(good)
    answers = broker.read("answers")
    told = {(one["prediction_id"], one["probability"]) for answer in answers for one in answer["predictions"]}
    assert told == {(one[0], json.loads(one[2])["probability"]) for one in logged}  # and the same each time
    expected = predict_rows(MODEL, X, "binary")["probability"]
    assert sorted(round(one[1], 12) for one in told) == sorted(
        round(expected.iloc[place], 12) for i in good for place in (i, -1 - i))
    letter = next(one for one in broker.read("dead") if '"number": 9}' in one["body"])
    assert {one["field"] for one in letter["violations"]} == {"temp", "wind", "number"}
    assert "Traceback" not in (tmp_path / "consumer.log").read_text()


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)  # librdkafka's own keeps nothing on disk
def test_a_broker_that_goes_away_is_waited_for(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    log = tmp_path / "consumer.log"
    with start_consumer(tmp_path, broker):
        wait_until(lambda: "answering" in log.read_text(), "the consumer begins")
        broker.send(make_questions(0, 5), [None] * 5)
        wait_until(lambda: len(read_log(tmp_path)) == 10, "what came before")
        wait_until(lambda: broker.count_waiting() == 0, "it is acknowledged")
        said = log.stat().st_size
        broker.stop()
        wait_until(lambda: log.stat().st_size > said, "the consumer says that the broker is away")
        broker.start()
        broker.send(make_questions(20, 5), [None] * 5)
        wait_until(lambda: len(read_log(tmp_path)) == 20, "what came after")
        wait_until(lambda: len({one["request_id"] for one in broker.read("answers")}) == 10, "all answers")


def test_messages_wait_for_a_champion(tmp_path: Path, broker: Broker) -> None:
    log = tmp_path / "consumer.log"
    with start_consumer(tmp_path, broker):
        wait_until(lambda: "answering" in log.read_text(), "the consumer begins")
        broker.send(make_questions(0, 3), [None] * 3)
        wait_until(lambda: "No release of 'flights' can answer" in log.read_text(), "a message is given back")
        write_release(tmp_path, 1)
        wait_until(lambda: len(read_log(tmp_path)) == 6, "answers from the champion")
    assert not broker.read("dead")


def test_a_message_that_is_no_text_is_a_dead_letter_and_comes_no_more(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    with start_consumer(tmp_path, broker):
        wait_until(lambda: "answering" in (tmp_path / "consumer.log").read_text(), "the consumer begins")
        sent = broker.send_nonsense()
        broker.send(make_questions(0, 1), [None])
        wait_until(lambda: len(broker.read("dead")) == sent, "all dead letters")
        wait_until(lambda: len(broker.read("answers")) == 1, "the answer to what came after")
        wait_until(lambda: broker.count_waiting() == 0, "all are acknowledged")
    assert all(letter["what"] for letter in broker.read("dead"))
    said = (tmp_path / "consumer.log").read_text()
    assert said.count("dead letter") == sent
    assert "Traceback" not in said


@pytest.mark.parametrize("broker", ["redis", "nats"], indirect=True)  # Kafka makes groups by itself
def test_a_group_that_is_gone_is_made_anew(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    with start_consumer(tmp_path, broker) as consumer:
        wait_until(lambda: "answering" in (tmp_path / "consumer.log").read_text(), "the consumer begins")
        broker.send(make_questions(0, 2), [None] * 2)
        wait_until(lambda: len(read_log(tmp_path)) == 4, "what came before")
        broker.forget()
        wait_until(lambda: (tmp_path / "consumer.log").read_text().count("answering") == 2, "it begins again")
        broker.send(make_questions(20, 2), [None] * 2)
        wait_until(lambda: len(broker.read("answers")) == 2, "what came after")
        consumer.send_signal(signal.SIGINT)
        assert consumer.wait(60) in (0, 130)


def test_an_answer_names_the_question_and_its_rows_as_the_producer_does(tmp_path: Path, broker: Broker) -> None:
    write_release(tmp_path, 1)
    question = json.dumps({"rows": [{"key": "AA1", **X.to_dict("records")[0]}, X.to_dict("records")[1]]}).encode()
    with start_consumer(tmp_path, broker):
        wait_until(lambda: "answering" in (tmp_path / "consumer.log").read_text(), "the consumer begins")
        broker.send([question] * 4 + [b"{}"], ["a", "b", "a", None, "bad1"])
        wait_until(lambda: len({one["request_id"] for one in broker.read("answers")}) == 3, "answers")
        wait_until(lambda: broker.read("dead"), "a dead letter")
    assert len(read_log(tmp_path)) == 6
    answers = broker.read("answers")
    assert {one["message_id"] for one in answers} == {"a", "b", None}
    assert all([row.get("key") for row in one["predictions"]] == ["AA1", None] for one in answers)
    (letter,) = broker.read("dead")
    assert letter["message_id"] == letter["headers"]["message-id"] == "bad1"
    marks = broker.list_marks("answers")
    assert marks == {one["message_id"] or one["request_id"] for one in answers} or not marks  # Redis has no headers


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
