"""What is asked at the same moment is answered together, and nobody has to answer for another's rows."""

import asyncio
import datetime as dt
import json
import time
from dataclasses import replace

import pytest

from cd4ml.base.errors import StoreError
from cd4ml.base.settings import load_settings
from cd4ml.delivery.manifest import Release
from cd4ml.production import rounds
from cd4ml.production.challenger import Challenge, Trial
from cd4ml.production.champion import Champion
from cd4ml.production.outcomes import OutcomeLog, Told
from cd4ml.production.predictions import read_predictions
from cd4ml.production.requests import RequestError, read_features
from cd4ml.production.service import MOST_LONG, ServeOptions, Service, hear_outcomes


class Counting:
    """Answers with twice `x`, refuses negative ones, and counts how often it is asked."""

    def __init__(self, factor=2):
        self.factor, self.asked = factor, []

    def answer_rows(self, rows):
        self.asked.append(len(rows))
        if any(row["x"] < 0 for row in rows):
            raise ValueError("below nothing")
        return [{"prediction": self.factor * row["x"]} for row in rows]


def make_champion(version, model):
    release = Release("toy", version, "", "regression", "y", (("x", "float64"),), (), {"decision": {}}, {}, None, {})
    return Champion(release, model, read_features(release))


@pytest.fixture
def service(tmp_path):
    settings = replace(load_settings(), release_store=str(tmp_path), prediction_log=str(tmp_path / "predictions"))
    made = Service(settings, "toy", ServeOptions(clock=lambda: dt.datetime(2026, 1, 2, tzinfo=dt.UTC)))
    made.watch.champion = make_champion(1, Counting())
    yield made
    made.close()


def ask(service, *numbers):
    async def ask_all():
        bodies = [b'{"rows": [{"x": %d}, {"x": 0.5}]}' % number for number in numbers]
        return await asyncio.gather(*(service.answer(body, lambda champion, data: champion.decoder.read_asked(data, 10))
                                      for body in bodies), return_exceptions=True)

    return asyncio.run(ask_all())


def test_requests_of_one_moment_are_one_question_to_the_model_and_each_gets_its_own_answer(service, tmp_path):
    found = ask(service, *range(50))
    assert service.watch.champion.model.asked == [100]
    assert [[row["prediction"] for row in one.answers] for one in found] == [[2 * i, 1.0] for i in range(50)]
    assert len({one.request_id for one in found}) == 50
    logged = read_predictions(tmp_path / "predictions", "toy")
    assert len(logged) == 100
    for one in found:
        own = logged[logged["request_id"] == one.request_id]
        assert own["prediction_id"].tolist() == one.ids
        assert own["prediction"].tolist() == [row["prediction"] for row in one.answers]


def test_a_moment_with_many_rows_is_answered_in_parts(service, monkeypatch):
    monkeypatch.setattr(rounds, "MOST_ROWS", 5)
    found = ask(service, *range(7))
    assert service.watch.champion.model.asked == [4, 4, 4, 2]
    assert [one.answers[0]["prediction"] for one in found] == [2 * i for i in range(7)]


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (2, [2]), (128, [128]), (129, [128, 1]), (300, [128, 128, 44])])
@pytest.mark.parametrize("key", ["", "k"])
def test_a_request_of_any_size_is_logged_in_few_lines_and_each_row_by_its_id(service, tmp_path, count, sizes, key):
    rows = [{"x": i + 0.5} | ({"key": f"{key}{i}"} if key else {}) for i in range(count)]
    asked = service.answer(json.dumps({"rows": rows}).encode(),
                           lambda champion, data: champion.decoder.read_asked(data, 1000))
    answer = asyncio.run(asked)
    assert [line.size for line in answer.logged] == ([1] * count if key else sizes)
    told = json.loads(answer.write_predictions())
    assert [one["prediction_id"] for one in told] == [*answer.ids]
    assert len({*answer.ids, answer.request_id}) == count + 1
    logged = read_predictions(tmp_path / "predictions", "toy")
    assert logged["prediction_id"].tolist() == [*answer.ids]
    assert logged["prediction"].tolist() == [one["prediction"] for one in told] == [2 * row["x"] for row in rows]
    assert logged["x"].tolist() == [row["x"] for row in rows]
    assert logged["key"].tolist() == [row.get("key", "") for row in rows]


def test_of_long_requests_few_are_read_ahead_and_all_are_answered(service, monkeypatch):
    read, most = [], []

    def note(champion, data):
        asked = champion.decoder.read_asked(data, 1000)
        read.append(len(asked.rows))
        most.append(len(read) - len(service.watch.champion.model.asked))
        return asked

    async def ask_all():
        body = b'{"rows": [%b]}' % b", ".join([b'{"x": 1.5}'] * 900)
        return await asyncio.gather(*(service.answer(body, note) for _ in range(40)))

    monkeypatch.setattr(rounds, "MOST_ROWS", 1)
    assert [len(one.answers) for one in asyncio.run(ask_all())] == [900] * 40
    assert (len(read), max(most)) == (40, MOST_LONG)


def test_a_row_that_is_refused_spoils_no_other_request(service, tmp_path):
    first, refused, last = ask(service, 1, -1, 3)
    assert isinstance(refused, RequestError)
    assert (refused.status, "below nothing" in refused.got) == (422, True)
    assert (first.answers[0]["prediction"], last.answers[0]["prediction"]) == (2, 6)
    assert len(read_predictions(tmp_path / "predictions", "toy")) == 4


def test_a_change_of_champion_between_two_requests_of_one_moment_mixes_nothing(service):
    async def ask_both():
        def read(champion, data):
            return champion.decoder.read_asked(data, 10)

        first = asyncio.ensure_future(service.answer(b'{"x": 1}', read))
        await asyncio.sleep(0)  # it has its champion, and is not answered yet
        service.watch.champion = make_champion(2, Counting(10))
        return await asyncio.gather(first, service.answer(b'{"x": 1}', read))

    before, after = asyncio.run(ask_both())
    assert (before.release, before.answers[0]["prediction"]) == (1, 2)
    assert (after.release, after.answers[0]["prediction"]) == (2, 10)


def test_what_cannot_be_logged_is_answered_to_nobody(service):
    service.journal.log.close()
    found = ask(service, 1, 2, 3)
    assert all(isinstance(one, StoreError) for one in found)
    assert b"cd4ml_predictions_total{" not in service.metrics.write()


def test_a_request_that_gives_up_does_not_disturb_those_beside_it(service):
    async def ask_two():
        def read(champion, data):
            return champion.decoder.read_asked(data, 10)

        gone, stays = (asyncio.ensure_future(service.answer(b'{"x": 1}', read)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(ask_two()).answers[0]["prediction"] == 2


def assert_followed_on(service, monkeypatch):
    """Whatever is wrong with outcomes, who follows the history is not stopped by it."""
    with monkeypatch.context() as broken:
        broken.setattr(OutcomeLog, "select", lambda *_: 1 / 0)
        hear_outcomes(service)
    assert not any(arm.losses for arm in service.trial.arms.values())


def test_outcomes_that_were_told_elsewhere_reach_the_canary(service, tmp_path, monkeypatch):
    """By the command, to another server, or of ids that are not the service's own."""
    log = tmp_path / "predictions"
    OutcomeLog(log).append("toy", [Told("", "k1", 0, "9.0")])  # of before the trial
    canary = make_champion(2, Counting(3))
    service.trial = Trial(Challenge(2, 0.5), canary, tmp_path / "note.json")
    hear_outcomes(service)

    def ask_key(key):
        body = b'{"x": 1, "key": "%s"}' % key.encode()
        return service.answer(body, lambda champion, data: champion.decoder.read_asked(data, 10))

    async def ask_all():
        return [await ask_key(f"k{i}") for i in range(40)]

    answers = asyncio.run(ask_all())
    by_id = [Told(one.ids[0], "", 0, "2.0") for one in answers[:20]]
    OutcomeLog(log).append("toy", [*by_id, *(Told("", f"k{i}", 0, "2.0") for i in range(20, 40)),
                                   Told("a client's own, 28 of them..", "", 0, "5.0"), Told("", "nobody's", 0, "5.0")])
    assert_followed_on(service, monkeypatch)
    OutcomeLog(log).append("other", [Told("", "k2", 0, "7.0")])
    service.options = replace(service.options, poll_seconds=0.01)
    monkeypatch.setattr(service.watch, "refresh", lambda: None)
    service.start()
    ends = time.monotonic() + 30
    while sum(len(arm.losses) for arm in service.trial.arms.values()) < 40 and time.monotonic() < ends:
        time.sleep(0.01)
    losses = {name: sorted(set(arm.losses.values())) for name, arm in service.trial.arms.items()}
    assert losses == {"champion": [0.0], "challenger": [1.0]}  # twice and three times 1, where 2 came
    assert sum(len(arm.losses) for arm in service.trial.arms.values()) == 40


def test_what_chance_chose_together_counts_as_one(service, tmp_path):
    """A request, however many lines of the log it takes; with keys all that follow the same first one."""
    service.trial = Trial(Challenge(2, 0.5), make_champion(2, Counting(3)), tmp_path / "note.json")

    def ask_rows(rows):
        return asyncio.run(service.answer(json.dumps({"rows": rows}).encode(),
                                          lambda champion, data: champion.decoder.read_asked(data, 1000)))

    long = ask_rows([{"x": 1}] * 300)
    keyed = [ask_rows([{"x": i, "key": "a"}, {"x": i, "key": f"b{i}"}]) for i in range(3)]
    other = ask_rows([{"x": 1}, {"x": 1, "key": "c"}])  # its first row has none
    told = [*long.ids, *keyed[0].ids, *other.ids]
    OutcomeLog(tmp_path / "predictions").append("toy", [
        *(Told(name, "", 0, "2.0") for name in told), Told("", "b1", 0, "2.0"), Told("", "b2", 0, "2.0")])
    hear_outcomes(service)
    units = {name: unit for arm in service.trial.arms.values() for name, unit in arm.units.items()}
    assert {units[name] for name in long.ids} == {long.request_id}
    assert {units[name] for name in (*keyed[0].ids, keyed[1].ids[1], keyed[2].ids[1])} == {"a"}
    assert {units[name] for name in other.ids} == {other.request_id}
    assert len(units) == 306
