"""What a window says, with rows of older releases, without rows, and through the real notebook."""

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import ReleaseError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.params import Resolved
from cd4ml.base.settings import Settings, load_settings
from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.evaluation import Interval
from cd4ml.model.metrics import find_metrics
from cd4ml.production.alarms import Watch
from cd4ml.production.monitoring import Baseline, read_baseline, read_window, run_monitoring, summarise_window
from cd4ml.production.predictions import Prediction, PredictionLog

AT = dt.datetime(2013, 7, 31, 12, tzinfo=dt.UTC)
TRAIN = pd.DataFrame({"temp": np.random.default_rng(1).normal(60, 10, 3000), "late": [True, False] * 1500})
RELEASE = Release("flights", 2, "2026-01-02", "binary", "late", (("temp", "float64"),), (False, True), {}, {}, None, {})
BASELINE = Baseline(RELEASE, profile_frame(TRAIN, ["temp"]))


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    places = {"ROOT": Path(__file__).parents[3], "RUN_STORE": tmp_path / "run", "DATA_STORE": tmp_path / "data",
              "RELEASE_STORE": tmp_path / "releases", "PREDICTION_LOG": tmp_path / "log"}
    for name, place in places.items():
        monkeypatch.setenv(f"CD4ML_{name}", str(place))
    return load_settings()


def promote_toy(settings: Settings) -> None:
    store, profile = Store(settings.release_store), json.dumps(BASELINE.profile.to_dict()).encode()
    store.write("flights/2/profile.json", profile)
    store.write("flights/2/manifest.json", replace(RELEASE, files={"profile.json": hash_bytes(profile)}).to_json())
    add_event(store, "flights", lambda number, _: Event(number, "promote", 2, None, "", "ada", "", "ci"))


def log_rows(settings: Settings, count: int, days_apart: float, shift: float = 0.0) -> None:
    values = np.random.default_rng(2).normal(60 + shift, 10, count)
    PredictionLog(Path(settings.prediction_log)).append([
        Prediction(f"p{i}", f"r{i}", AT - dt.timedelta(days=i * days_apart), "flights", 2, {"temp": float(value)},
                   {"prediction": False, "probability": 0.2}, 0.004) for i, value in enumerate(values)])


def make_rows(count: int, release: int, **columns: object) -> pd.DataFrame:
    return pd.DataFrame({"prediction_id": [f"p{i}" for i in range(count)], "seconds": 0.1, "release": release,
                         "request_id": [f"r{i}" for i in range(count)],
                         "at": pd.date_range(AT, periods=count, freq="min"), "prediction": True, "probability": 0.5,
                         **columns})


def test_the_window_ends_with_the_last_prediction(settings: Settings) -> None:
    assert len(read_window(settings, "flights", 30)) == 0
    log_rows(settings, 60, days_apart=1)
    found = read_window(settings, "flights", 30)
    assert len(found) == 30
    assert found["at"].max() == AT


def make_outcomes(count: int, share: float = 0.5) -> dict[str, bool]:
    return {f"p{i}": i < count * share for i in range(count)}


def test_rows_that_were_never_asked_for_a_feature_do_not_count_as_missing() -> None:
    temps = np.random.default_rng(3).normal(60, 10, 600)
    old, new = make_rows(500, 1), make_rows(600, 2, temp=temps)
    report = summarise_window(pd.concat([old, new], ignore_index=True), {}, BASELINE)
    assert report.alarms == ()
    assert report.drift[0].n == 600
    assert report.rows == 1100
    gone = summarise_window(make_rows(600, 2, temp=None), {}, BASELINE)
    assert [(one.kind, one.name) for one in gone.alarms] == [("missing", "temp")]
    assert "missing in 100% of the rows" in gone.alarms[0].meaning
    nothing = summarise_window(old, {}, BASELINE)
    assert nothing.drift == ()
    assert any("nothing to compare" in note for note in nothing.notes)


def test_predictions_of_each_task_are_summarised() -> None:
    rows = make_rows(4, 2, temp=60.0)
    assert summarise_window(rows, {}, BASELINE).predictions == {"share of True": 1.0, "mean probability": 0.5}
    numbers = replace(BASELINE, release=replace(RELEASE, task="regression"))
    assert summarise_window(rows.assign(prediction=[1, 2, 3, 4]), {}, numbers).predictions["p50"] == 2.5
    classes = replace(BASELINE, release=replace(RELEASE, task="multiclass"))
    found = summarise_window(rows.assign(prediction=list("aabc")), {}, classes).predictions
    assert found == {"share of a": 0.5, "share of b": 0.25, "share of c": 0.25}


def test_what_a_shadow_answered_was_not_sent() -> None:
    rows = pd.concat([make_rows(300, 2, temp=60.0, role="champion"), make_rows(900, 3, temp=0.0, role="shadow")])
    report = summarise_window(rows, {}, BASELINE)
    assert report.rows == 300
    assert report.traffic.releases == {2: 300}


def test_few_rows_raise_no_false_alarm() -> None:
    rng, alarms = np.random.default_rng(4), 0
    for _ in range(200):
        alarms += bool(summarise_window(make_rows(20, 2, temp=rng.normal(60, 10, 20)), {}, BASELINE).alarms)
    assert alarms <= 8  # of 200, at a level of 0.01


def test_outcomes_are_held_against_the_promise() -> None:
    temps = np.random.default_rng(5).normal(60, 10, 600)
    rows = make_rows(600, 2, temp=temps)
    known = replace(BASELINE, promised={"brier": Interval(0.2, 0.19, 0.21, 0.95, 900)},
                    metrics=tuple(find_metrics(["brier"], "binary")))
    fine = summarise_window(rows, make_outcomes(600), replace(known, promised={
        "brier": Interval(0.25, 0.24, 0.26, 0.95, 900)}))
    assert fine.recommendation == "nothing"
    assert fine.outcomes.missing == 0
    worse = summarise_window(rows, make_outcomes(600), known)
    assert [alarm.kind for alarm in worse.alarms] == ["performance"]
    assert worse.recommendation == "retrain"
    assert worse.to_dict()["performance"]["brier"]["promised"]["low"] == 0.19
    few = summarise_window(rows, make_outcomes(100), known)
    assert (few.alarms, few.recommendation, few.outcomes.missing) == ((), "wait", 500)


def test_what_another_release_answered_is_not_the_champions_merit() -> None:
    rows = make_rows(600, 1, temp=60.0)
    report = summarise_window(rows, make_outcomes(600), BASELINE)
    assert report.performance == {}
    assert report.periods[0].told == 600
    assert any("No outcome is told of what release 2" in note for note in report.notes)


def test_answers_are_held_against_those_on_the_holdout() -> None:
    rng = np.random.default_rng(6)
    held = replace(BASELINE, answers=profile_frame(pd.DataFrame({"probability": rng.uniform(0, 0.5, 3000)})))
    rows = make_rows(600, 2, temp=rng.normal(60, 10, 600))
    same = summarise_window(rows.assign(probability=rng.uniform(0, 0.5, 600)), {}, held)
    assert same.alarms == ()
    assert [one.name for one in same.answers] == ["probability"]
    moved = summarise_window(rows.assign(probability=rng.uniform(0.3, 0.8, 600)), {}, held)
    assert [(one.kind, one.name) for one in moved.alarms] == [("predictions", "probability")]
    untold = summarise_window(rows, {}, BASELINE)
    assert any("no profile of its answers" in note for note in untold.notes)


def test_a_replay_reads_no_clock_and_gives_the_same_again() -> None:
    rows = make_rows(400, 2, temp=60.0)
    until = AT + dt.timedelta(days=40)
    first, again = (summarise_window(rows, make_outcomes(300), BASELINE, Watch(until=until)) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    assert [one.label for one in first.outcomes.ages] == ["over 30 days"]


def test_rows_of_a_day_are_taken_together_if_the_problem_says_so() -> None:
    days = np.repeat(np.arange(60), 50)
    cold = np.random.default_rng(8).normal(60, 10, 60)[days]
    profile = profile_frame(pd.DataFrame({"temp": cold}), unit=pd.Series(days))
    rows = make_rows(600, 2, temp=np.random.default_rng(9).normal(70, 1, 600))  # ten warm hours of one day
    alone, together = (summarise_window(rows, {}, replace(BASELINE, profile=profile, has_units=flag))
                       for flag in (False, True))
    assert [one.kind for one in alone.alarms] == ["drift"]
    assert together.alarms == ()


def test_without_a_champion_there_is_nothing_to_hold_it_against(settings: Settings) -> None:
    with pytest.raises(ReleaseError, match="cd4ml release flights"):
        read_baseline(settings, "flights")


def test_a_baseline_is_what_the_release_carries(settings: Settings) -> None:
    promote_toy(settings)
    old = read_baseline(settings, "flights")
    assert (old.answers, old.promised, old.known_gap, old.has_units) == (None, {}, 0.0, True)
    store, answers = Store(settings.release_store), profile_frame(pd.DataFrame({"probability": [0.1, 0.2]}))
    kept = {"profile.json": BASELINE.profile.to_dict() | {"format": 1},
            "predictions.json": answers.to_dict() | {"gap": 0.1},
            "metrics.json": {"roc_auc": Interval(0.7, 0.6, 0.8, 0.95, 90).to_dict()}}
    files = {path: json.dumps(value).encode() for path, value in kept.items()}
    for path, data in files.items():
        store.write(f"flights/2/{path}", data)
    hashes = {path: hash_bytes(data) for path, data in files.items()}
    store.write("flights/2/manifest.json", replace(RELEASE, files=hashes).to_json())
    found = read_baseline(settings, "flights")
    assert (found.answers, found.known_gap, found.promised["roc_auc"].low) == (answers, 0.1, 0.6)
    assert found.choose_metrics()[0].name == "roc_auc"


@pytest.mark.parametrize(("count", "said"), [(0, "has not been asked anything yet"),
                                             (400, "alarms of drift")])
def test_the_notebook_shows_and_records_the_report(settings: Settings, count: int, said: str) -> None:
    promote_toy(settings)
    log_rows(settings, count, days_apart=0.01, shift=20)
    params = Resolved("flights", "default", {"monitor": {"days": 30, "alarm_psi": 0.2}}, {}, {})
    done = run_monitoring(settings, "flights", params, AT)
    page = Path(done.report)
    assert said in done.summary
    assert said in page.read_text()
    assert "Traceback (most" not in page.read_text()
    recorded = json.loads((page.parent / "results.json").read_text())["results"][0]
    assert recorded["name"] == "monitoring"
    assert recorded["value"]["rows"] == count
    assert not (page.parent / "step.json").exists()
    assert page.parent.name.startswith("20130731-120000-")
