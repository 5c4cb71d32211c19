"""Trials: who is chosen, what is compared, and how often a guardrail stops what does no harm, or what does."""

import asyncio
import datetime as dt
import random
import time
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from cd4ml.base.errors import SettingsError, StoreError
from cd4ml.delivery.manifest import Release
from cd4ml.production import guardrails
from cd4ml.production.challenger import (
    MOST_SHADOWS,
    Challenge,
    Sent,
    Trial,
    choose_challenge,
    describe_trial,
    find_misfit,
    note_outcomes,
    pose_question,
    read_canary,
)
from cd4ml.production.champion import Champion
from cd4ml.production.guardrails import Arm, Guardrails, find_breach, find_tail, keep_loss, measure_loss
from cd4ml.production.requests import Asked, list_features, read_features
from cd4ml.production.rounds import Answer, Question, make_answer

AT = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


def make_champion(version: int, *features: tuple[str, str]) -> Champion:
    release = Release("toy", version, "", "regression", "y", features or (("x", "float64"),), (), {"decision": {}}, {},
                      None, {})
    return Champion(release, None, read_features(release))


def make_question(champion: Champion, *keys: str, x: float = 1.0) -> Question:
    return Question(champion, Asked([{"x": x, "y": 2.0}], keys), AT, time.perf_counter(), True)


class Server:
    """Answer as release 1 or 2 would; the other one may fail, or be slow."""

    def __init__(self, fault: Exception | None = None):
        self.fault, self.asked, self.wait = fault, list[Question](), 0.0

    async def ask(self, question: Question) -> Answer:
        self.asked.append(question)
        if question.role != "champion":
            await asyncio.sleep(self.wait)
            if self.fault:
                raise self.fault
        return make_answer(question, [{"prediction": question.champion.release.version}])


@pytest.mark.parametrize("text", ["", "4", ":", "4:", "0:10%", "-1:10%", "4:0", "4:-1%", "4:101%", "4:nan%", "a:b%",
                                  "4:10", "4:1", "4:0.1", "4:%"])
def test_what_is_no_canary_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"no canary.*Write it like 4:10%"):
        read_canary(text)


def test_a_canary_is_read_in_percent_alone() -> None:
    assert read_canary("4:10%") == Challenge(4, 0.1)
    assert read_canary("4:0.5%") == Challenge(4, 0.005)
    assert read_canary("4:100%") == Challenge(4, 1.0)
    assert choose_challenge(3, "") == Challenge(3)
    assert choose_challenge(None, "") is None
    with pytest.raises(SettingsError, match="as a shadow or as a canary"):
        choose_challenge(3, "4:10%")


def test_a_key_keeps_its_release_when_the_share_grows() -> None:
    keys = [f"{number}".encode() for number in range(5000)]
    small, large = ({key for key in keys if Challenge(4, share).chooses(key)} for share in (0.05, 0.2))
    assert small < large
    assert 180 < len(small) < 320
    assert {key for key in keys if Challenge(5, 0.05).chooses(key)} != small


@pytest.mark.parametrize(("hits", "n", "share"), [(0, 10, 0.01), (1, 10, 0.01), (7, 50, 0.05), (100, 1000, 0.05)])
def test_the_tail_is_scipys(hits: int, n: int, share: float) -> None:
    assert find_tail(hits, n, share) == pytest.approx(binom.sf(hits - 1, n, share), rel=1e-9)


def run_trial(rng: random.Random, requests: int, fails: float, slow: float, worse: float) -> int:
    """Return after how many requests of the canary a guardrail broke, 0 if none did."""
    ours, theirs, rails = Arm(), Arm(), Guardrails()
    for number in range(1, requests + 1):
        ours.count([], rng.expovariate(100))
        theirs.count([], rng.expovariate(100) * (4 if rng.random() < slow else 1), rng.random() < fails)
        keep_loss(ours, str(number), str(number), rng.random())
        keep_loss(theirs, str(number), str(number), rng.random() + worse)
        if number % rails.every == 0 and find_breach(ours, theirs, rails, number // rails.every):
            return number
    return 0


def test_a_canary_that_is_as_good_is_hardly_ever_stopped() -> None:
    """At the very edge of what is allowed, over 20 looks each: at most one in a hundred."""
    rng = random.Random(7)
    stopped = sum(run_trial(rng, 1000, 0.01, 0.0, 0.0) > 0 for _ in range(150))
    assert binom.sf(stopped - 1, 150, Guardrails().level) > 0.001


@pytest.mark.parametrize(("requests", "rows"), [(1, 20), (8, 3)])
def test_rows_that_are_wrong_together_do_not_take_back_a_canary_that_is_as_good(requests: int, rows: int) -> None:
    """Of a request, or of several that follow the same key: each has its own luck, which all of its rows share."""
    rng, rails, stopped = random.Random(9), Guardrails(), 0
    for _ in range(150):
        arms = Arm(), Arm()
        for unit in range(200):
            for arm in arms:
                luck = rng.random() ** 4
                for row in range(requests * rows):
                    keep_loss(arm, f"{unit}-{row}", f"{unit}", luck + rng.random() / 10)
        stopped += any(find_breach(*arms, rails, look) for look in (1, 2, 3, 4))
    assert binom.sf(stopped - 1, 150, rails.level) > 0.001


@pytest.mark.parametrize(("harm", "within"), [((0.1, 0.0, 0.0), 300), ((0.0, 0.9, 0.0), 400), ((0.0, 0.0, 0.2), 500)])
def test_a_canary_that_does_harm_is_stopped_soon(harm: tuple[float, float, float], within: int) -> None:
    rng = random.Random(8)
    assert all(0 < run_trial(rng, 2000, *harm) <= within for _ in range(20))


def test_a_trial_that_was_fine_for_long_is_stopped_when_it_turns_bad() -> None:
    ours, theirs = Arm(), Arm()
    for number in range(100_000):
        theirs.count([], 0.001, is_failure=number > 99_900)
    assert find_breach(ours, theirs, Guardrails(), 2000).guardrail == "failing requests"


def test_what_fails_is_answered_by_the_champion_and_taken_back_for_good(tmp_path: Path) -> None:
    server, note = Server(RuntimeError("broken")), tmp_path / "runs" / "note.json"
    trial = Trial(Challenge(2, 1.0), make_champion(2), note, Guardrails(every=10))

    async def run() -> list[int]:
        questions = [make_question(make_champion(1), str(i)) for i in range(60)]
        return [(await trial.answer(question, b"", server.ask)).release for question in questions]

    assert asyncio.run(run()) == [1] * 60
    asked = sum(question.role == "challenger" for question in server.asked)
    assert 10 <= asked <= 20
    assert describe_trial(trial)["state"] == "stopped"
    again = Trial(Challenge(2, 1.0), make_champion(2), note)
    assert again.stopped == trial.stopped
    assert pose_question(again, make_question(make_champion(1))) is None
    assert not Trial(Challenge(2), make_champion(2), note).stopped  # a shadow harms nobody


def test_a_canary_that_cannot_be_noted_is_taken_back_and_nobody_hears_of_it(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(RuntimeError("broken"))
    trial = Trial(Challenge(2, 1.0), make_champion(2), tmp_path / "runs" / "note.json", Guardrails(every=10))
    (tmp_path / "runs").write_text("a file where the folder should be")

    async def run() -> list[int]:
        questions = [make_question(make_champion(1), str(i)) for i in range(40)]
        return [(await trial.answer(question, b"", server.ask)).release for question in questions]

    assert asyncio.run(run()) == [1] * 40
    assert describe_trial(trial)["state"] == "stopped"
    assert "could not be noted" in caplog.text


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b"3", b"{}", b"\xff", b'{"reason": ""}'])
def test_a_damaged_note_keeps_the_canary_away(tmp_path: Path, note: bytes) -> None:
    (tmp_path / "note.json").write_bytes(note)
    trial = Trial(Challenge(2, 1.0), make_champion(2), tmp_path / "note.json")
    assert describe_trial(trial)["state"] == "stopped"
    assert pose_question(trial, make_question(make_champion(1))) is None


def test_what_the_champion_refuses_too_is_no_failure_and_a_log_that_fails_is_told() -> None:
    trial = Trial(Challenge(2, 1.0), make_champion(2), Path("none"))

    async def refuse(question: Question) -> Answer:
        raise ValueError("no such rows")

    async def lose(question: Question) -> Answer:
        raise StoreError("The log is full")

    for ask, kind in ((refuse, ValueError), (lose, StoreError)):
        with pytest.raises(kind):
            asyncio.run(trial.answer(make_question(make_champion(1)), b"", ask))
    assert trial.arms["challenger"].requests == 0


def test_a_shadow_never_keeps_anybody_waiting_and_what_it_cannot_follow_is_counted() -> None:
    server, trial = Server(), Trial(Challenge(2), make_champion(2), Path("none"))
    server.wait = 0.2

    async def run() -> float:
        began = time.perf_counter()
        for _ in range(MOST_SHADOWS + 7):
            assert (await trial.answer(make_question(make_champion(1)), b"", server.ask)).release == 1
        sent = time.perf_counter() - began
        assert trial.agreement.rows == 0  # none has answered yet, and yet everybody has an answer
        await trial.finish()
        return sent

    asyncio.run(run())
    told: dict[str, Any] = describe_trial(trial)
    assert told["skipped"] == 7
    assert told["agreement"]["rows"] == MOST_SHADOWS == told["challenger"]["requests"]
    assert told["agreement"] == {"rows": MOST_SHADOWS, "flips": 0, "mean_difference": 1.0, "largest_difference": 1.0}
    sent, shadow = server.asked[0], next(one for one in server.asked if one.role == "shadow")
    assert [one.endswith("~2") for one in shadow.ids] == [True]
    assert sent.ids == ()


def test_only_what_fits_is_asked_and_of_what_it_knows() -> None:
    both, one = (("x", "float64"), ("y", "float64")), (("x", "float64"),)
    fits = Trial(Challenge(2), make_champion(2, *one), Path("none"))
    asked = pose_question(fits, make_question(make_champion(1, *both)))
    assert asked.asked.rows == [{"x": 1.0}]
    assert asked.role == "shadow"
    unfit = Trial(Challenge(2), make_champion(2, *both), Path("none"))
    assert pose_question(unfit, make_question(make_champion(1, *one))) is None
    assert describe_trial(unfit)["state"] == "not asked"
    assert "y" in describe_trial(unfit)["reason"]
    same = Trial(Challenge(2, 0.5), make_champion(2), Path("none"))
    assert pose_question(same, make_question(make_champion(2))) is None
    assert pose_question(same, make_question(make_champion(1))) is not None  # it was undone: it is tried again


@pytest.mark.parametrize(("theirs", "ours", "fits"), [
    ("float64", "int64", True), ("int64", "float64", False), ("int8", "int64", False), ("int64", "int64", True),
    ("str", "float64", False), ("str", "str", True), ("bool", "str", False)])
def test_a_model_must_take_all_that_the_champion_takes(theirs: str, ours: str, fits: bool) -> None:
    wants, gets = (list_features([("x", kind)], "toy") for kind in (theirs, ours))
    assert (find_misfit(wants, gets) == "") is fits


def test_losses_are_of_what_the_answer_is() -> None:
    assert measure_loss({"prediction": "yes", "probability": 0.75}, "no", ("no", "yes")) == 0.5625
    assert measure_loss({"prediction": "a", "probability_a": 0.6}, "b", ("a", "b", "c")) == 1.0
    assert measure_loss({"prediction": 1.5}, 2, ()) == 0.25


def test_a_canary_whose_answers_turn_out_worse_is_taken_back(tmp_path: Path) -> None:
    server, trial = Server(), Trial(Challenge(2, 0.5), make_champion(2), tmp_path / "note.json", Guardrails(every=50))

    async def run() -> list[int]:
        answers = [await trial.answer(make_question(make_champion(1), str(i)), b"", server.ask) for i in range(400)]
        told = {one.ids[0]: Sent(one.release, one.answers[0], one.request_id) for one in answers}
        truth = random.Random(4)
        note_outcomes(trial, {name: 1 + truth.gauss(0, 0.5) for name in told}, told)  # release 2 always answers 2
        note_outcomes(trial, dict.fromkeys(told, 1.0), {"0" * 28: Sent(1, {"prediction": 99.0}, "")})  # of before
        later = [await trial.answer(make_question(make_champion(1), str(i)), b"", server.ask) for i in range(400)]
        return [one.release for one in later]

    released = asyncio.run(run())
    assert set(released[200:]) == {1}
    assert "mean loss" in trial.stopped
    figures = describe_trial(trial)
    assert figures["challenger"]["mean_loss"] > figures["champion"]["mean_loss"] + 0.5
    assert figures["champion"]["outcomes"] + figures["challenger"]["outcomes"] == 400


def test_a_long_trial_remembers_the_newest_outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardrails, "MOST_LOSSES", 10)
    trial = Trial(Challenge(2, 0.5), make_champion(2), tmp_path / "note.json")
    trial.since, names = 1, [f"{i:028x}" for i in range(16**17, 16**17 + 15)]
    note_outcomes(trial, dict.fromkeys(names, 1.0), {name: Sent(1, {"prediction": 3.0}, name) for name in names})
    assert [*trial.arms["champion"].losses] == [*trial.arms["champion"].units] == names[5:]


def test_an_outcome_that_is_told_again_counts_once_and_one_that_is_forgotten_not_at_all(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardrails, "MOST_LOSSES", 3)
    arm = Arm()
    for name, unit, loss in (("a1", "a", 1.0), ("a2", "a", 2.0), ("b1", "b", 4.0), ("a1", "a", 8.0)):
        keep_loss(arm, name, unit, loss)
    assert arm.totals == {"a": (10.0, 2), "b": (4.0, 1)}
    keep_loss(arm, "c1", "c", 5.0)
    keep_loss(arm, "c2", "c", 6.0)
    assert arm.totals == {"a": (8.0, 1), "c": (11.0, 2)}
