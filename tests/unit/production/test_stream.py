import asyncio
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cd4ml.base.errors import ReleaseError, StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import Settings, load_settings
from cd4ml.base.store import Store
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model
from cd4ml.production.predictions import PredictionLog, summarise_log
from cd4ml.production.requests import Fault, RequestError
from cd4ml.production.stream import (
    StreamOptions,
    StreamService,
    find_message_id,
    make_prediction_id,
    name_message,
    write_dead_letter,
)

ROOT = Path(__file__).resolve().parents[3]
X = pd.DataFrame(np.random.default_rng(3).normal(size=(100, 2)), columns=["temp", "wind"])
QUESTION = json.dumps({"rows": X[:3].to_dict("records")}).encode()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    store = Store(str(tmp_path / "releases"))
    for version in (1, 2):
        data = dump_model(LogisticRegression(C=10.0**version).fit(X, X["temp"] > 0))
        release = Release("flights", version, "2026-01-02T03:04:05+00:00", "binary", "late",
                          tuple((name, "float64") for name in X), (False, True), {}, {}, None,
                          {"model/model.skops": hash_bytes(data)})
        store.write(f"{release.folder}/model/model.skops", data)
        store.write(f"{release.folder}/manifest.json", release.to_json())
    return replace(load_settings(ROOT), release_store=store.url, prediction_log=str(tmp_path / "log"))


def promote(settings: Settings, version: int) -> None:
    add_event(Store(settings.release_store), "flights",
              lambda number, old: Event(number, "promote", version, old, "", "ada", "", "ci"))


def ask(service: StreamService, body: bytes, headers: Mapping[str, Any]) -> dict[str, Any]:
    return asyncio.run(service.answer_message(body, headers))


def test_a_question_that_comes_again_gets_its_answer_though_another_release_serves(settings: Settings) -> None:
    promote(settings, 1)
    with StreamService(settings, "flights") as service:
        first = ask(service, QUESTION, {})
        promote(settings, 2)
        service.watch.refresh()
        assert ask(service, QUESTION, {}) == first
        second = ask(service, QUESTION, {"message-id": "b"})
    assert (first["release"], second["release"]) == (1, 2)
    assert len(first["predictions"]) == len(second["predictions"]) == 3
    assert not {one["prediction_id"] for one in first["predictions"]} & {
        one["prediction_id"] for one in second["predictions"]}
    assert summarise_log(Path(settings.prediction_log), "flights").releases == {1: 3, 2: 3}


def test_two_consumers_with_the_same_question_at_once_log_it_once(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(settings, 1)
    with StreamService(settings, "flights") as one, StreamService(settings, "flights") as other:
        message_id = find_message_id(QUESTION, {})
        first = ask(one, QUESTION, {})
        with pytest.raises(StoreError):
            asyncio.run(other._answer(QUESTION, message_id))
        looked = []
        monkeypatch.setattr(other, "_recall", lambda asked: looked.append(asked) or (  # just before the first one wrote
            StreamService._recall(other, asked) if len(looked) > 1 else {}))
        assert ask(other, QUESTION, {}) == first
        assert len(looked) == 2
    assert summarise_log(Path(settings.prediction_log), "flights").count == 3


def test_questions_at_once_are_logged_together_and_equal_ones_once(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(settings, 1)
    commits, write = list[int](), PredictionLog.write_lines

    def count(log: PredictionLog, lines: Sequence[Any]) -> None:
        commits.append(len(lines))
        time.sleep(0.05)  # a slow disk, for which others wait
        write(log, lines)

    monkeypatch.setattr(PredictionLog, "write_lines", count)
    with StreamService(settings, "flights") as service:
        async def ask_many() -> list[dict[str, Any]]:
            return await asyncio.gather(*(service.answer_message(QUESTION + b" " * (number // 2), {})
                                          for number in range(24)))
        told = asyncio.run(ask_many())
    assert told[::2] == told[1::2]
    assert len({one["request_id"] for one in told}) == 12
    assert summarise_log(Path(settings.prediction_log), "flights").count == 36
    assert max(commits) > 3, "no two questions went to disk together"


def test_without_a_champion_a_question_waits(settings: Settings) -> None:
    with StreamService(settings, "flights") as service:
        with pytest.raises(ReleaseError, match="No release"):
            ask(service, QUESTION, {})


def test_what_cannot_be_logged_is_not_answered(settings: Settings) -> None:
    promote(settings, 1)
    with StreamService(settings, "flights") as service:
        ask(service, QUESTION + b" ", {})
        (path,) = Path(settings.prediction_log).glob("*-*.db")
        with sqlite3.connect(path) as log:
            log.execute("alter table lines rename to gone")
        with pytest.raises(StoreError):
            ask(service, QUESTION, {})


@pytest.mark.parametrize(("body", "status"), [
    (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[]", 422), (b'{"rows": []}', 422), (b'{"temp": 1}', 422),
    (b'{"temp": 1, "wind": Infinity}', 422), (QUESTION * 1000, 413)])
def test_a_message_that_can_never_be_answered_is_a_dead_letter_with_its_reason(
        settings: Settings, body: bytes, status: int) -> None:
    promote(settings, 1)
    with StreamService(settings, "flights", StreamOptions(max_bytes=5000)) as service:
        with pytest.raises(RequestError) as caught:
            ask(service, body, {"trace": "t1"})
    assert caught.value.status == status
    letter = json.loads(json.dumps(write_dead_letter(body, {"trace": "t1"}, caught.value)))
    assert letter["what"]
    assert letter["headers"] == {"trace": "t1"}
    assert {"body", "body_base64"} & set(letter)


def test_an_answer_names_message_and_rows_as_the_producer_does_also_when_it_comes_again(settings: Settings) -> None:
    promote(settings, 1)
    rows = X[:3].to_dict("records")
    question = json.dumps({"rows": [{"key": "AA1", **rows[0]}, rows[1], {"key": "AA3", **rows[2]}]}).encode()
    with StreamService(settings, "flights") as service:
        first = ask(service, question, {"Message-Id": b"m\xff"})
        assert first == ask(service, question, {"message-id": b"m\xff"})
        other = ask(service, question, {"correlation_id": "c1"})
    assert (first["message_id"], other["message_id"]) == ("m\\xff", "c1")
    assert [one.get("key") for one in first["predictions"]] == ["AA1", None, "AA3"]
    assert name_message({}) is None


def test_a_dead_letter_can_be_written_as_text_whatever_it_holds() -> None:
    error = RequestError(422, "wrong", [Fault(0, "\ud800", "a feature", "none")])
    letter = write_dead_letter(b"\xff", {"message-id": b"bad1", "trace": b"\xff", "\ud800": 1}, error)
    assert letter["message_id"] == letter["headers"]["message-id"] == "bad1"
    assert letter["headers"] == {"message-id": "bad1", "trace": "\\xff", "\\ud800": "1"}
    assert json.dumps(letter, ensure_ascii=False).encode()


def test_ids_differ_by_problem_message_and_row() -> None:
    ids = {make_prediction_id(problem, message, row)
           for problem in ("iris", "flights") for message in ("a", "b") for row in range(3)}
    assert len(ids) == 12
    assert {len(one) for one in ids} == {28}
    assert find_message_id(b"x", {"message-id": b"x"}) != find_message_id(b"x", {})
