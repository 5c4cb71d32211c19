import json
import socket
from types import SimpleNamespace

import pytest

from cd4ml.base.errors import Cd4mlError, SettingsError
from cd4ml.production.brokers import check_reachable, describe_streams, name_streams, read_address, read_question
from cd4ml.production.requests import list_features


@pytest.mark.parametrize("url", ["", "redis", "redis://", "http://host", "redis://host:port", "nats://[::1", "amqp://h:1"])
def test_an_address_of_no_known_kind_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="no address of a broker"):
        read_address(url)


def test_a_password_is_never_shown() -> None:
    address = read_address("nats://ada:secret@host:1")
    assert (address.host, address.port, address.shown) == ("host", 1, "nats://host:1")
    with pytest.raises(SettingsError) as caught:
        read_address("amqp://ada:secret@host")
    assert "secret" not in str(caught.value)


def test_a_broker_that_does_not_listen_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = read_address(f"redis://127.0.0.1:{server.getsockname()[1]}")
        check_reachable(address)
    with pytest.raises(Cd4mlError, match="cannot be reached"):
        check_reachable(address, 1.0)


def test_an_entry_of_a_plain_redis_client_is_read() -> None:
    def read(fields: dict) -> tuple:
        return read_question(SimpleNamespace(raw_message={"data": fields}, body=b"all", headers={"message-id": "f"}))

    assert read({b"question": b"{}"}) == (b"{}", {})
    assert read({b"question": b"{}", b"message-id": b"7"}) == (b"{}", {"message-id": b"7"})
    assert read({b"__data__": b"{}"}) == (b"all", {"message-id": "f"})
    assert read({b"a": b"1", b"b": b"2"}) == (b'{"a": "1", "b": "2"}', {})
    assert read({b"\xff": b"\xfe"}) == (b"\xfe", {})
    assert json.loads(read({b"\xff": b"1", b"b": b"\xfe"})[0]) == {"\\xff": "1", "b": "\\xfe"}


@pytest.mark.parametrize("scheme", ["redis", "nats", "kafka"])
def test_the_document_says_what_a_question_must_hold_and_no_password(scheme: str) -> None:
    features = list_features([("temp", "float64"), ("hour", "int64")], "The model")
    user = "" if scheme == "kafka" else "ada:secret@"
    found = describe_streams(f"{scheme}://{user}host", name_streams("flights"), "flights", features)
    assert found["asyncapi"].startswith("3.")
    assert {one["address"] for one in found["channels"].values()} == {
        "flights.questions", "flights.answers", "flights.dead"}
    row = found["components"]["schemas"]["questions:Message:Payload"]["oneOf"][1]
    assert row["properties"]["hour"]["type"] == "integer"
    assert row["properties"]["temp"]["type"] == ["number", "null"]
    schemas = found["components"]["schemas"]
    assert {"message_id", "headers"} <= {*schemas["dead letters:Message:Payload"]["required"]}
    assert "key" in schemas["answers:Message:Payload"]["properties"]["predictions"]["items"]["properties"]
    marks = {name.partition(":")[0]: one.get("correlationId", {}).get("location", "")
             for name, one in found["components"]["messages"].items()}
    assert marks["answers"].startswith("$message.payload" if scheme == "redis" else "$message.header")
    assert json.dumps(found) == json.dumps(
        describe_streams(f"{scheme}://{user}host", name_streams("flights"), "flights", features))
    assert "secret" not in json.dumps(found)


def test_a_password_for_kafka_is_refused_rather_than_left_out() -> None:
    with pytest.raises(SettingsError, match="without a password") as caught:
        describe_streams("kafka://ada:secret@host", name_streams("flights"), "flights", ())
    assert "secret" not in str(caught.value)
