"""The loop on a market whose prices change overnight: traffic goes through a real server, and a new model is made."""

import datetime as dt
import itertools
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from cd4ml.base.store import Store
from cd4ml.data.catalog import hash_frame
from cd4ml.delivery.history import read_history
from cd4ml.delivery.release import read_release
from cd4ml.production.feedback import Subject, judge_outcomes, keep_outcomes
from cd4ml.production.predictions import Prediction, PredictionLog

pytestmark = pytest.mark.slow

SIMULATE = '''def simulate_sales():
    """Return 40 sales a day; from March on everything costs half as much again."""
    import numpy as np
    import pandas as pd

    rng, days = np.random.default_rng(5), pd.date_range("2013-01-01", "2013-04-24")
    size = rng.uniform(1, 50, 40 * len(days)).round(1)
    day = np.repeat(days.to_numpy(), 40)
    factor = np.where(day < np.datetime64("2013-03-01"), 2.0, 3.0)
    return pd.DataFrame({"id": [f"S{i}" for i in range(len(day))], "day": pd.Series(day).astype("datetime64[us]"),
                          "size": size, "price": (factor * size + rng.normal(0, 1, len(day))).round(2)})'''
PROBLEM = '''
import datetime

import pandas as pd
from pydantic import BeforeValidator, Field
from typing import Annotated

from cd4ml.data.catalog import Dataset
from cd4ml.model.problem import Params, PrepareParams, Problem, Return
from cd4ml.model.split import split_by_time

FILE = Dataset("sales", "shop.problems.shop:simulate_sales", "python", "{sha256}", "the shop", "what was sold", "CC0")
Day = Annotated[datetime.date, BeforeValidator(
    lambda one: datetime.date.fromisoformat(one) if isinstance(one, str) else one)]


{simulate}


def make_contracts():
    import pandera.pandas as pa

    schema = pa.DataFrameSchema({{"id": pa.Column(str, unique=True), "day": pa.Column("datetime64[us]"),
                                  "size": pa.Column(float, pa.Check.in_range(0, 100)), "price": pa.Column(float)}})
    return {{"sales": schema, "rows": schema}}


class Prepare(PrepareParams):
    """Parameters of the prepare step."""

    train_from: Day = datetime.date(2013, 1, 1)
    """First training day."""
    train_until: Day = datetime.date(2013, 2, 1)
    """Day after the last training day."""
    holdout_until: Day = datetime.date(2013, 2, 15)
    """Day after the last day of the holdout."""


class ShopParams(Params):
    """Parameters of the shop."""

    prepare: Prepare = Field(default_factory=Prepare)


def build_model(params):
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def restore_rows(df):
    day = df["at"].dt.tz_localize(None).dt.normalize().astype("datetime64[us]")
    return pd.DataFrame({{"id": df["key"].astype(str), "day": day, "size": df["size"].astype(float),
                          "price": df["outcome"].astype(float)}})


def read_traffic(frames):
    sales = frames["sales"]
    asked = (sales["day"] + pd.to_timedelta(8 + sales.index % 10, unit="h")).dt.tz_localize("UTC")
    known = pd.DataFrame({{"key": sales["id"], "asked_at": asked, "told_at": asked + pd.Timedelta(hours=20),
                           "outcome": sales["price"], "size": sales["size"]}})
    return known.sort_values(["asked_at", "key"], ignore_index=True)


PROBLEM = Problem(
    "shop", "Shop", "What a thing will cost.", "regression", "price", ("size",), (FILE,), make_contracts,
    lambda frames, params: frames["sales"],
    lambda rows, params: split_by_time(rows, "day", params.train_from, params.train_until,
                                       params.holdout_until),
    build_model, params=ShopParams, metrics=("rmse",), unit="day", comes_back=Return(
        "day", restore_rows, lambda until, days: {{"train_from": until - datetime.timedelta(days=days + 10),
                                                   "train_until": until - datetime.timedelta(days=days),
                                                   "holdout_until": until}}, read_traffic))
'''
PARAMS = """
evaluate:
  rules:
    - {metric: rmse, margin: 0.5}
    - {metric: rmse, at_most: 5}
monitor:
  days: 10
  act_on: [performance, calibration]
  act_holdout_days: 4
  act_least_rows: 100
  act_cooldown_days: 5
"""


@pytest.fixture(scope="module")
def shop(shared_workbench):
    """Return a workbench with the problem of a shop, whose first release serves."""
    folder = shared_workbench.folder
    shutil.rmtree(folder / "params")
    (folder / "pyproject.toml").write_text('[project]\nname = "shop"\n')
    (folder / "shop/problems").mkdir(parents=True)
    for name in ("shop/__init__.py", "shop/problems/__init__.py"):
        (folder / name).touch()
    (folder / "params/shop").mkdir(parents=True)
    (folder / "params/shop/default.yaml").write_text(PARAMS)
    shared_workbench.environ["PYTHONPATH"] = str(folder)
    simulated: dict = {}
    exec(SIMULATE, simulated)
    sha256 = hash_frame(simulated["simulate_sales"]())
    (folder / "shop/problems/shop.py").write_text(PROBLEM.format(simulate=SIMULATE, sha256=sha256))
    assert shared_workbench.call_json("release", "shop")["promoted"]
    return shared_workbench


@pytest.fixture(scope="module")
def replayed(shop):
    """Return what `cd4ml replay` says of nine weeks in which prices change."""
    return shop.call_json("replay", "shop", "--from", "2013-02-15", "--to", "2013-04-20", "--look-days", "2")


def test_everything_is_asked_and_every_outcome_told(replayed) -> None:
    assert replayed["rows"] == replayed["told"] == 64 * 40
    page = Path(replayed["report"]).read_text()
    for words in ("What did it gain?", "Did what was expected come true?", "What did the loop see, and do?"):
        assert words in page


def find_turns(replayed):
    return [(look["at"][:10], look["turn"]) for look in replayed["looks"] if look["turn"]["attempt"]]


def test_nothing_is_made_while_all_is_well_and_a_new_model_when_it_is_not(replayed) -> None:
    turns = find_turns(replayed)
    early = [look["turn"]["verdict"]["action"] for look in replayed["looks"] if look["at"] < "2013-03-02"]
    assert set(early) == {"nothing"}
    assert "2013-03-02" < turns[0][0] < "2013-03-12"
    assert "performance of RMSE" in turns[0][1]["verdict"]["reasons"][0]
    assert any(turn["attempt"]["is_promoted"] for _, turn in turns)


def test_a_model_that_learned_nothing_of_the_change_is_not_promoted_and_a_later_one_is(replayed) -> None:
    """The first attempt holds out all days that are not as before: it is no worse than the champion, and no good."""
    attempts = [turn["attempt"] for _, turn in find_turns(replayed)]
    assert not attempts[0]["is_promoted"]
    assert "the gate says fail" in attempts[0]["told"]
    assert attempts[-1]["is_promoted"]


def test_a_cool_down_lies_between_attempts(replayed) -> None:
    days = [pd.Timestamp(day) for day, _ in find_turns(replayed)]
    assert all((later - day).days >= 5 for day, later in itertools.pairwise(days))


def test_nothing_was_learned_from_the_future_or_judged_on_what_was_learned(shop, replayed) -> None:
    data = Store(str(shop.folder / ".cd4ml/data"))
    for day, turn in find_turns(replayed):
        harvest = json.loads(data.read(f"harvests/{turn['attempt']['harvest']['snapshot']}.json"))
        assert harvest["until"] <= day
        assert harvest["rows"] > 100
        release = read_release(Store(f"{replayed['folder']}/release_store"), "shop", turn["attempt"]["release"])
        assert release.run["params"]["prepare"]["production"] == harvest["snapshot"]
        assert release.run["params"]["prepare"]["holdout_until"] <= day
        assert {"train", "holdout"} <= release.data.keys()


def test_what_is_served_in_the_end_is_better_than_the_first_model(shop, replayed) -> None:
    from cd4ml.delivery.results import read_record

    told = read_record(Path(replayed["report"]).parent)["replay"].value
    assert told["gain"]["rmse"]["low"] > 0
    assert "better in RMSE" in replayed["summary"]


def test_a_replay_touches_nothing_of_production(shop, replayed) -> None:
    assert [event.action for event in read_history(Store(str(shop.folder / "releases")), "shop")] == ["promote"]
    assert not (shop.folder / ".cd4ml/predictions").exists()
    assert not (shop.folder / ".cd4ml/loop").exists()


def test_a_backtest_holds_another_release_against_the_champion_on_the_same_rows(shop) -> None:
    params = ("-p", "prepare.train_from=2013-01-20", "-p", "prepare.train_until=2013-02-01")
    other = shop.call_json("release", "shop", *params)["version"]
    days = ("--from", "2013-02-15", "--to", "2013-02-25")
    told = shop.call_json("replay", "shop", *days, "--backtest", str(other))
    assert (told["champion"], told["challenger"], told["rows"]) == (1, other, 400)
    assert told["differences"]["rmse"]["low"] <= told["differences"]["rmse"]["value"] < 0.5
    code, _, err = shop.call("replay", "shop", *days, "--backtest", "1")
    assert code == 2
    assert "it is the champion" in " ".join(err.split())


def test_days_that_the_champion_knows_are_not_replayed(shop) -> None:
    code, _, err = shop.call("replay", "shop", "--from", "2013-01-20", "--to", "2013-02-20")
    assert code == 2
    assert "has learned from days that are to be replayed" in " ".join(err.split())


def test_a_time_without_traffic_and_a_speed_that_is_none_are_told(shop) -> None:
    for options, words in ((("--from", "2014-01-20", "--to", "2014-02-20"), "no traffic in that time"),
                           (("--from", "2013-02-15", "--to", "2013-02-16", "--speed", "fast"), "no speed")):
        code, _, err = shop.call("replay", "shop", *options)
        assert code == 2
        assert words in " ".join(err.split())


def test_monitoring_acts_when_told_to_and_says_what_it_waits_for(shop) -> None:
    """What was asked before the champion served says nothing of it: the alarm is raised, and the loop waits."""
    address, began = shop.folder / ".cd4ml/predictions", dt.datetime(2013, 3, 10, 8, tzinfo=dt.UTC)
    rows = [(f"p{i:03}", began + dt.timedelta(hours=i), float(i % 40 + 1)) for i in range(240)]
    PredictionLog(address).append([
        Prediction(name, name, at, "shop", 1, {"size": size}, {"prediction": 2 * size}, 0.001, f"S{name}")
        for name, at, size in rows])
    told = [{"key": f"S{name}", "outcome": 3 * size} for name, _, size in rows]
    keep_outcomes(address, "shop", judge_outcomes(Subject("shop", "regression", ()), told, rows[-1][1])[0])
    done = shop.call_json("monitor", "shop", "--act")
    assert {"performance", "calibration"} <= {one["kind"] for one in done["monitoring"]["alarms"]}
    assert done["turn"]["verdict"]["action"] == "wait"
    assert "only 0 rows came back" in done["turn"]["verdict"]["reasons"][-1]
    assert "turn" not in shop.call_json("monitor", "shop")
    code, out, _ = shop.call("monitor", "shop", "--act")
    assert (code, "shop: wait: performance of RMSE" in " ".join(out.split())) == (0, True)
