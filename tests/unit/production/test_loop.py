"""A model that the loop makes is the champion anew, and an attempt that ends in an error is noted as failed."""

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cd4ml.base.settings import Settings, load_settings
from cd4ml.delivery.manifest import Release
from cd4ml.delivery.steps import Order, make_order
from cd4ml.model.problem import MonitorParams
from cd4ml.production import loop

NOW = dt.datetime(2013, 9, 10, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Found:
    """Stand for a harvest."""

    def to_dict(self) -> dict[str, Any]:
        return {"snapshot": "a" * 64, "until": "2013-09-09"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings under which flights has a champion, and something to learn from."""
    settings = replace(load_settings(), run_store=str(tmp_path))
    made = make_order(settings, "flights", "default", ["train.max_depth=6", "prepare.train_from=2013-03-01",
                                                       "evaluate.confidence=0.8"])
    steps = {step: dict(values) for step, values in made.params.steps.items()}
    run = {"variant": "default", "params": steps}
    champion = Release("flights", 3, "", "binary", "late", (), (), run, {}, None, {})
    monkeypatch.setattr(loop, "find_reign", lambda *_: (3, NOW - dt.timedelta(days=20)))
    monkeypatch.setattr(loop, "_gather", lambda *_: (Found(), 100_000))
    monkeypatch.setattr(loop, "read_release", lambda *_: champion)
    return settings


def take_turn(settings: Settings) -> loop.Turn:
    rules = MonitorParams(act_after_days=5, act_least_rows=1)
    return loop.take_turn(settings, "flights", rules, [], NOW)


def test_a_new_model_is_made_as_the_champion_was_of_other_days(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Order] = []

    def release(order: Order, _: object) -> None:
        orders.append(order)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "release_problem", release)
    with pytest.raises(KeyboardInterrupt):
        take_turn(settings)
    steps, plain = orders[0].params.steps, make_order(settings, "flights").params.steps
    assert steps["train"] == {**plain["train"], "max_depth": 6}
    assert steps["prepare"]["train_from"] == "2013-03-01"
    assert steps["prepare"]["holdout_until"] == "2013-09-09"
    assert steps["prepare"]["production"] == "a" * 64
    assert steps["evaluate"] == plain["evaluate"], "gates are those of today"


def test_an_attempt_that_ends_in_any_error_is_noted_as_failed(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def release(*_: object) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(loop, "release_problem", release)
    with pytest.raises(RuntimeError):
        take_turn(settings)
    (attempt,) = loop.read_attempts(loop.find_attempts(settings, "flights"))
    assert (attempt.state, attempt.told) == ("failed", "RuntimeError('the disk is gone')")
