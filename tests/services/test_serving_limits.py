"""The command `cd4ml serve` under more than it takes: limits, keys that are rotated, TLS, an end in order, switches."""

import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from certificate import write_certificate
from server_process import COMMAND, LISTING, PROBLEM, ROOT, promote, serve, write_release
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from waiting import wait_until

from cd4ml.base.store import Store
from cd4ml.production.predictions import read_predictions

pytestmark = pytest.mark.slow
ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0, 5.0]})


def keep_release(store: Store, version: int, is_portable: bool = True, takes_null: bool = False) -> None:
    """Write a release that answers its own number times x; where x is null, it refuses or takes it for 0."""
    model = LinearRegression()
    if takes_null:
        model = make_pipeline(SimpleImputer(strategy="constant", fill_value=0.0), model)
    write_release(store, model.fit(ROWS, version * ROWS["x"]), ROWS, version, is_portable=is_portable)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(str(tmp_path / "releases"))
    for version in (1, 2):
        keep_release(store, version)
    promote(store, 2)
    return store


def ask(address: str, body: object, key: str = "", context: ssl.SSLContext | None = None) -> tuple[int, dict, dict]:
    request = urllib.request.Request(f"{address}/predict", json.dumps(body).encode(),
                                     {"Content-Type": "application/json", "X-API-Key": key})
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as reply:
            return reply.status, json.load(reply), dict(reply.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), dict(error.headers)


def test_tls_rotated_keys_and_a_rate_for_each(tmp_path: Path, store: Store, own_certificate: tuple[Path, Path]) -> None:
    certificate, private = own_certificate
    keys = tmp_path / "keys"
    keys.write_text("old\nother\n")
    with serve(store, "--certificate", str(certificate), "--private-key", str(private), "--keys-file", str(keys),
               "--max-rate", "4", "--release", "1", "--host", "0.0.0.0") as (_, address):
        address, context = address.replace("0.0.0.0", "127.0.0.1"), ssl.create_default_context(cafile=str(certificate))
        with pytest.raises(OSError):
            ask(address.replace("https", "http"), {"x": 1.0}, "old")
        status, told, _ = ask(address, {"x": 1.5}, "old", context)
        assert (status, told["release"], round(told["predictions"][0]["prediction"], 9)) == (200, 1, 1.5)
        answers = [ask(address, {"x": 1.0}, "old", context) for _ in range(12)]
        refused = [one for one in answers if one[0] == 429]
        assert refused
        assert {status for status, _, _ in answers} == {200, 429}
        assert refused[0][1]["what"] == "This key asks too often"
        assert int(refused[0][2]["retry-after"]) >= 1
        assert ask(address, {"x": 1.0}, "other", context)[0] == 200
        keys.with_name("draft").write_text("new\nother\n")
        os.replace(keys.with_name("draft"), keys)
        time.sleep(1.1)
        told = [ask(address, {"x": 1.0}, key, context)[0] for key in ("old", "new", "other", "")]
        assert told == [401, 200, 200, 401]


def test_a_certificate_that_is_renewed_is_used_without_a_stop(
        tmp_path: Path, store: Store, own_certificate: tuple[Path, Path]) -> None:
    certificate, private = own_certificate
    with serve(store, "--certificate", str(certificate), "--private-key", str(private)) as (process, address):
        first = ssl.create_default_context(cafile=str(certificate))
        assert ask(address, {"x": 1.0}, "", first)[0] == 200
        os.replace(certificate, tmp_path / "kept.pem")
        certificate.write_text("half a cert")
        while "The certificate that was stays" not in process.stderr.readline():
            pass
        assert ask(address, {"x": 1.0}, "", first)[0] == 200
        for path in write_certificate(tmp_path / "new"):
            os.replace(path, tmp_path / path.name)  # one after the other, as programs that renew them do
        while "the certificate was renewed" not in process.stderr.readline():
            pass
        assert ask(address, {"x": 1.0}, "", ssl.create_default_context(cafile=str(certificate)))[0] == 200
        with pytest.raises(OSError, match="certificate verify failed"):
            ask(address, {"x": 1.0}, "", first)


def test_overload_is_refused_in_words_and_over_when_it_is_over(store: Store) -> None:
    body, answers = {"rows": [{"x": 1.0}] * 3000}, list[tuple[int, dict, dict]]()
    with serve(store, "--max-requests", "2") as (_, address):
        assert ask(address, body)[0] == 200

        def ask_often() -> None:
            for _ in range(6):
                answers.append(ask(address, body))

        threads = [threading.Thread(target=ask_often) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = Counter(status for status, _, _ in answers)
        assert counts.keys() == {200, 503}, counts
        refused = next(one for one in answers if one[0] == 503)
        assert refused[1]["what"] == "The server is busy"
        assert int(refused[2]["retry-after"]) >= 1
        assert [ask(address, body)[0] for _ in range(3)] == [200] * 3


def test_who_stops_sending_takes_no_place_and_does_not_keep_the_server_from_ending(store: Store) -> None:
    with serve(store, "--max-requests", "2") as (process, address):
        host, port = address.removeprefix("http://").split(":")
        stalled = [socket.create_connection((host, int(port)), 60) for _ in range(6)]
        for number, one in enumerate(stalled):
            one.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                        b"Content-Length: 500\r\n\r\n" + b'{"x'[:number])
        assert [ask(address, {"x": 1.0})[0] for _ in range(3)] == [200] * 3
        process.send_signal(signal.SIGTERM)
        ended = [one.makefile("rb").read() for one in stalled]  # to the end: each was closed
        said = process.communicate(timeout=25)[1]
        for one in stalled:
            one.close()
    assert all(one.startswith(b"HTTP/1.1 503") and b"The server ends" in one for one in ended)
    assert "Traceback" not in said


def test_a_server_says_what_answers_and_when_that_changed(store: Store) -> None:
    store.write(file := f"{PROBLEM}/2/model/model.skops", store.read(file)[:-9])
    with serve(store) as (process, address):
        assert "serving nothing yet: Release 2 of 'flights' is damaged" in process.said
        assert "serving release" not in process.said
        for release in (1, 2):
            keep_release(store, release)
            promote(store, release)
            wait_until(lambda release=release: ask(address, {"x": 1.0})[1].get("release") == release, "its release", 60)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[1].splitlines()
    changes = [line for line in said if "answers now" in line]
    assert [line.partition(" ")[2] for line in changes] == [
        "INFO release 1 of flights answers now", "INFO release 2 of flights answers now, 1 did"]
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in changes)


@pytest.mark.parametrize("has_portable", [True, False])
def test_what_was_accepted_is_answered_before_the_server_ends(store: Store, has_portable: bool) -> None:
    keep_release(store, 3, has_portable)
    promote(store, 3)
    body = json.dumps({"rows": [{"x": 2.0}] * 8000})
    with serve(store) as (process, address):
        connections = [http.client.HTTPConnection(address.removeprefix("http://"), timeout=30) for _ in range(6)]
        for connection in connections:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        for _ in range(3):  # whoever is answered now came after those
            assert urllib.request.urlopen(f"{address}/health/live", timeout=30).status == 200
        process.send_signal(signal.SIGTERM)
        replies = [connection.getresponse() for connection in connections]
        answers = [json.loads(reply.read()) for reply in replies]
        assert process.wait(30) in (0, -signal.SIGTERM)
    assert [reply.status for reply in replies] == [200] * 6
    assert all(round(one["predictions"][-1]["prediction"], 9) == 6.0 for one in answers)


def test_fifty_switches_under_load_fail_no_request_and_mix_no_answer(store: Store) -> None:
    answers, done = list[tuple[int, dict, dict]](), threading.Event()
    with serve(store) as (_, address):
        def ask_on() -> None:
            while not done.is_set():
                answers.append(ask(address, {"rows": [{"x": 1.0}, {"x": 3.0}]}))

        threads = [threading.Thread(target=ask_on) for _ in range(3)]
        for thread in threads:
            thread.start()
        for switch in range(50):
            promote(store, 1 + switch % 2)
            began = time.monotonic()
            while ask(address, {"x": 1.0})[1]["release"] != 1 + switch % 2:
                assert time.monotonic() < began + 10, f"switch {switch} never came"
                time.sleep(0.02)
        done.set()
        for thread in threads:
            thread.join()
    assert Counter(status for status, _, _ in answers).keys() == {200}
    assert {one["release"] for _, one, _ in answers} == {1, 2}
    for _, one, _ in answers:
        assert [round(row["prediction"] / one["release"], 9) for row in one["predictions"]] == [1.0, 3.0]


def test_a_process_that_serves_a_portable_release_is_lean(store: Store) -> None:
    """By the list of what the command has imported at its end, after it answered and showed all its pages."""
    began = time.monotonic()
    with serve(store, start=(sys.executable, "-c", LISTING)) as (process, address):
        assert urllib.request.urlopen(f"{address}/health/ready", timeout=30).status == 200
        print(f"ready after {time.monotonic() - began:.2f} s")
        assert ask(address, {"rows": [{"x": 1.0}] * 2000})[0] == 200
        assert ask(address, {"x": "wrong"})[0] == 422
        for path in ("/", "/docs", "/models", "/model", "/metrics", "/openapi.json"):
            assert urllib.request.urlopen(address + path, timeout=30).status == 200
        process.send_signal(signal.SIGINT)
        imported = set(process.communicate(timeout=30)[0].split())
    assert {"onnxruntime", "uvloop", "httptools", "msgspec"} <= imported
    heavy = ("mlflow jupyter_client jupyterlab ipykernel papermill matplotlib nbconvert nbdev IPython sklearn skops "
             "pandas scipy pandera pyarrow onnx skl2onnx websockets")
    assert not imported & set(heavy.split())


def test_nobody_serves_beyond_this_machine_in_the_clear_or_a_release_that_is_not_there(store: Store) -> None:
    environ = os.environ | {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": store.url, "CD4ML_API_KEYS": "a"}
    for options, said in ((("--host", "0.0.0.0"), "needs TLS"), (("--release", "9"), "no release 9"),
                          (("--keys-file", "none"), "file of keys"), (("--canary", "1:200%"), "no canary"),
                          (("--shadow", "9"), "no release 9"), (("--shadow", "1", "--canary", "1:5%"), "both")):
        done = subprocess.run([COMMAND, "serve", PROBLEM, "--port", "0", *options], env=environ,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert said in " ".join(done.stderr.split())


def tell_trial(address: str) -> dict:
    with urllib.request.urlopen(f"{address}/challenger", timeout=30) as reply:
        return json.load(reply)


def tell_outcomes(address: str, outcomes: list[dict]) -> None:
    request = urllib.request.Request(f"{address}/feedback", json.dumps({"outcomes": outcomes}).encode(),
                                     {"Content-Type": "application/json"})
    assert urllib.request.urlopen(request, timeout=30).status == 200


def test_a_shadow_is_asked_and_logged_and_answers_nobody(store: Store) -> None:
    with serve(store, "--shadow", "1") as (process, address):
        answers = [ask(address, {"rows": [{"x": i, "key": f"a{i}"}, {"x": -i, "key": f"b{i}"}]})[1]
                   for i in range(1, 31)]
        process.send_signal(signal.SIGTERM)  # whatever the shadow still owes is answered before the end
        process.wait(30)
    assert {answer["release"] for answer in answers} == {2}
    logged = read_predictions(Path(store.url).parent / "predictions", PROBLEM).set_index("prediction_id")
    for answer in answers:
        for row in answer["predictions"]:
            sent, shadow = logged.loc[row["prediction_id"]], logged.loc[f"{row['prediction_id']}~1"]
            assert (sent["release"], sent["role"], shadow["release"], shadow["role"]) == (2, "champion", 1, "shadow")
            assert sent["prediction"] == row["prediction"]
            assert shadow["prediction"] == pytest.approx(sent["x"])
            assert shadow["key"] == sent["key"]
            assert shadow["request_id"] == answer["request_id"]
    assert len(logged) == 120


def test_a_canary_keeps_to_its_keys_and_is_taken_back_by_itself_when_it_fails(store: Store) -> None:
    keep_release(store, 3, takes_null=True)
    promote(store, 3)
    with serve(store, "--canary", "1:40%") as (process, address):
        assert "beside it release 1, on 40 % of the keys" in process.said

        def ask_all(x: float | None) -> dict[str, int]:
            replies = {f"k{i}": ask(address, {"x": x, "key": f"k{i}"}) for i in range(150)}
            assert {status for status, _, _ in replies.values()} == {200}
            return {key: reply["release"] for key, (_, reply, _) in replies.items()}

        first = ask_all(5.0)
        assert Counter(first.values()).keys() == {1, 3}
        assert 35 < Counter(first.values())[1] < 85
        assert ask_all(7.0) == first
        told = tell_trial(address)
        assert (told["state"], told["challenger"]["failures"]) == ("running", 0)
        assert b"release 1, a canary, running" in urllib.request.urlopen(f"{address}/", timeout=30).read()
        assert told["challenger"]["mean_score"] == pytest.approx(6)
        assert told["champion"]["mean_score"] == pytest.approx(18)
        tell_outcomes(address, [{"key": key, "outcome": 15.0} for key in first])
        told, canary = tell_trial(address), sum(release == 1 for release in first.values())
        assert (told["champion"]["outcomes"], told["challenger"]["outcomes"]) == (2 * (150 - canary), 2 * canary)
        assert told["challenger"]["mean_loss"] == pytest.approx((10**2 + 8**2) / 2)  # of 5 and 7, where 15 came
        assert told["champion"]["mean_loss"] == pytest.approx((0 + 6**2) / 2)
        assert set(ask_all(None).values()) == {3}  # release 1 refuses what the champion takes
        assert tell_trial(address)["state"] == "stopped"
        assert "failing requests" in tell_trial(address)["reason"]
        assert set(ask_all(5.0).values()) == {3}
        metrics = urllib.request.urlopen(f"{address}/metrics", timeout=30).read().decode()
        assert 'cd4ml_predictions_total{problem="flights",release="1"' in metrics
    with serve(store, "--canary", "1:40%") as (process, address):
        assert "beside it release 1, which stays away: failing requests" in process.said
        assert tell_trial(address)["state"] == "stopped"
        assert {ask(address, {"x": 5.0, "key": f"k{i}"})[1]["release"] for i in range(20)} == {3}
